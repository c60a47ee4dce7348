"""Versus: the gateway (`pipeline serve`) beside other servers, with the same work, the same load, in the same minutes.

    python -m bench.versus             a worker is killed under load, here and in Triton: who answers, and what they say
    python -m bench.versus.rates       requests/s, latency and CPU of ours, Triton, mosec and an empty handler of gRPC

    environments.py     the folders of build/ that hold the other servers
    repository.py       models of Triton as text (pure)
    relays.py           the relay that every server has: as a config of ours, and as an ensemble of Triton
    triton.py, gateway.py, mosec.py, handler.py    the servers, each as processes that are started and ended
    leash.py            how they do not outlive the benchmark
    foreign/            what they run, in their environments
    callers.py          one client for all of them: gRPC, gRPC with shared memory, HTTP
    subjects.py         servers and callers as subjects of `bench.measure`
    outage.py           what a kill cost, from what was noted while it happened (pure)

README.md of `bench` says how to read what they print.
"""
