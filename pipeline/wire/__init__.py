"""What passes between processes: messages, their encoding, addresses, links, and the folder that all of it lies in."""
