"""A pipeline as the detector of Frigate: its `zmq` detectors ask here, and a client of the run asks the pipeline.

    messages   the codec of the protocol. Pure
    boxes      from a pipeline's output to Frigate's table; whether a pipeline has such an output. Pure
    router     the ROUTER socket
    desk       takes questions, and answers each of them once
"""
