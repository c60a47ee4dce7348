"""The command `pipeline`, one file a command."""
