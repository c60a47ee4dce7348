"""The gateway: pipelines as models of KServe v2 (Open Inference Protocol), over HTTP and gRPC, as Triton serves them.

`gateway` is the process behind `pipeline serve`. It is a client like any other, in an asyncio loop:

    http_front   bytes ──▶ kserve.http_request ─┐                      ┌─▶ client.aio ──▶ a pipeline
                                                ├─▶ inference ─────────┤
    grpc_front   frame ──▶ kserve.grpc_request ─┘   (conversion, pure) └─▶ client.aio ──▶ another one
         │
         └─ the other calls ──▶ calls ──▶ catalogue

`endpoints` is the one table of what can be called, and of what each call needs. Needs the extra `serve`.
"""
