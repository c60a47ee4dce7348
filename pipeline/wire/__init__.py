"""What passes between processes: messages, their encoding, sockets, and the folder these lie in."""
