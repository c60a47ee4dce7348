"""Remote: models of a server of KServe v2 elsewhere, behind the interface of every manager. Needs the extra `serve`.

    models ──▶ runner ──▶ future        what a program calls, as of `pipeline.connect`; aio: the same for asyncio
                  │          ▲
               outgoing   incoming      arrays to requests, responses to values. Pure
                  ▼          │
               exchange ◀── session     the shell, with one thread for time; what is sent again, and what ends. Pure
                  ▼
    grpc_link, http_link ◀── regions    how bytes travel; regions: system shared memory; guard: cleans up after a death

    address, description, failures      what a URL says, what a server says of a model, what an error is here. Pure
"""
