"""Which request is where, and which client, request or worker has which slot: state machines without any I/O."""
