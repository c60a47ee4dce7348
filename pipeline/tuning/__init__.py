"""`pipeline tune`: measures arrangements of a pipeline's stages on this machine, and writes the best one down."""
