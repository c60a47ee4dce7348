"""The benchmark: a relay of tensors through the pipeline, beside floors of the same transport without it.

It is part of the repository, not of the wheel. `python -m bench.run` measures; README.md says how to read it.
"""
