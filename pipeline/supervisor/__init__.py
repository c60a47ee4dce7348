"""Spawns, watches, starts again and stops the processes of a run."""
