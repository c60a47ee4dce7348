"""Chaos: a bounded soak of one pipeline, in which everything that can die does die.

    python -m bench.chaos --requests 10000 --kills 160 --seconds 200 --seed 1

    events.py      what happens to which process and when: drawn from the seed (pure)
    requests.py    what each request is, and what its answer must be (pure)
    stages.py      three stages that compute, and that die if a request says so
    client.py      the process that sends requests, and writes a journal of their ends
    caller.py      the process that sends requests through a gateway, over HTTP or gRPC; the same journal
    gateway.py     `pipeline serve` in front of the pipeline
    garbage.py     frames that are not messages of ours, and bytes that are not frames
    soak.py        runs the pipeline and the clients, and carries the events out
    tally.py       counts what happened from the journals, and what must be zero (pure)

The same seed gives the same events and requests; what they hit depends on the machine's own
scheduler.
"""
