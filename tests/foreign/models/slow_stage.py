"""The same as slow.py, as a stage of ours."""

import time


def slow(INPUT0):  # noqa: N803 (the input's name)
    time.sleep(1)
    return INPUT0
