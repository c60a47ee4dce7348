"""The bodies of the child processes, one file a role."""
