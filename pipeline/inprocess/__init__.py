"""`pipeline run --in-process`: every stage in this process and thread, so that a debugger and a profiler see all of it.

The scheduler, the compiled plan and the executions are those of every run; only what lies between processes is left
out. No shared memory, no socket, no child, nothing to clear up.

    workers.py     the scheduler and one execution a stage, over this process's own memory
    pipeline.py    the same with its one client's side
    client.py      what `pipeline.feeding` sends requests through
    running.py     from a config to an exit code
"""
