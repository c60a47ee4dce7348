"""The codec of KServe v2 (Open Inference Protocol) as NVIDIA Triton speaks it, for servers and for clients. Pure.

No module here knows a socket, an HTTP server, grpcio or asyncio. Bytes become values, and values become bytes:

    HTTP   body, headers ──encodings──▶ http_request  ──▶ InferRequest  ──admission──▶ Admitted
           parts         ◀───────────── http_response ◀── InferResponse
    gRPC   frame         ─────────────▶ grpc_request  ──▶ InferRequest
           parts         ◀───────────── grpc_response ◀── InferResponse
    the other calls      messages (protobuf), documents (metadata, config, index, statistics), settings, statuses

Each direction is there twice: a server reads requests and writes responses, a client does the reverse. What cannot be
read or admitted is a `pipeline.errors.KserveError`, and no other exception.
"""
