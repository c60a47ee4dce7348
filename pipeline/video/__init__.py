"""Frames of cameras: where they come from, which of them are wanted, and what becomes of those that nothing takes."""
