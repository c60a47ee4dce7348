"""TensorRT and TensorRT-RTX: the engine, what its versions call differently, and how plans are built."""
