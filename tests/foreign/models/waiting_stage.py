"""A stage that takes as long as its request says."""

import time

import numpy as np


def wait(x):
    """x: milliseconds, then whatever makes the request large; the answer: the sum of all."""
    time.sleep(int(x[0]) / 1000)
    return x.sum(dtype=np.uint64, keepdims=True)
