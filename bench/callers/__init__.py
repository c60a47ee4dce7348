"""Callers: what the ways to call a pipeline cost, beside calls of its stages in one process.

    python -m bench.callers --sizes 4096 --rounds 1

    tensors.py     tensors that differ from each other, and the check that an answer is the right one (pure)
    blocking.py    callers that wait in their thread: of the stages, of `Client`, of a runner of threads
    tasks.py       callers that are tasks of an asyncio loop

README.md of `bench` says how to read its tables.
"""
