"""What runs in the environment of a peer, which has numpy and the peer, and of this project only `bench`.

    talk.py             answers the orders of `bench.peers.session` with a subject
    exchange.py         the loop that drivers share: fill, submit, collect, check
    http_exchange.py    the same over HTTP, with a connection for each request in flight
    ours, floor, queues, torch_queues, mosec_server, triton_server, litserve_caller, iceoryx, ray_graph, ray_serve,
    dora_flow                          the drivers, one for each peer
    litserve_service, dora_relay       what some of them start
"""
