"""Which request is where, and which slot belongs to whom: state machines without any I/O."""
