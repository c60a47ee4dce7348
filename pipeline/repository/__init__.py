"""Models by name: runs that this program starts, and those that others have started, behind one interface."""
