"""Logs: what the processes of a run, and of `pipeline serve`, say to operators; one path from the word to the file."""
