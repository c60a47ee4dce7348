"""Chaos: a bounded soak of one pipeline, in which everything dies that can die.

    python -m bench.chaos --requests 10000 --kills 160 --seconds 200 --seed 1

    events.py      what is done to whom and when: drawn from the seed (pure)
    requests.py    what each request is, and what its answer has to be (pure)
    stages.py      three stages that compute, and that die where a request says so
    client.py      the process that sends requests, and keeps a journal of what became of them
    garbage.py     frames that are no message of ours, and bytes that are no frame
    soak.py        runs the pipeline and the clients, and carries the events out
    tally.py       counts what happened out of the journals; what must be zero (pure)

The seed gives the same events and the same requests again; what they hit is up to the scheduler of
the machine.
"""
