"""Compiles the code that every request passes through, if asked to; pyproject.toml has everything else.

    TRTLAB_COMPILE=1 pip install .      needs a C compiler and Python's headers; pip fetches the rest for the build

mypyc compiles the typed Python to C, unchanged. Nothing depends on it: without it, the same files run as Python.
"""

from __future__ import annotations

import os
import sys
from glob import glob
from tempfile import TemporaryDirectory

from setuptools import setup

# The loops of the scheduler and of the workers. Compiled code raises TypeError if a value is not of its declared
# type: the codec has checked messages before, and `stages.batch.Batch` the values of a user's stage. No function that is
# called for every batch contains another function: compiled, those refer to each other, so their variables wait for the
# garbage collector.
# worker/recorder.py is not compiled, since the traceback of a crash must show it. What else was tried: bench/NOTES.md.
COMPILED = [
    *sorted(glob("pipeline/scheduler/[!_]*.py")),
    *(
        f"pipeline/worker/{name}.py"
        for name in ("batcher", "candidates", "column_queue", "execution", "filling", "flight", "forwarder", "grouping",
            "joint", "lean", "onward", "packing", "replica", "unpacking",
        )
    ),
    "pipeline/graph/compiled.py",
    "pipeline/processes/outboxes.py",
    "pipeline/processes/scheduler.py",
    "pipeline/processes/worker.py",
    "pipeline/wire/flattening.py",
    "shm/pool.py",
    "shm/view.py",
    "stages/engines/transfers.py",
]

if os.environ.get("TRTLAB_COMPILE") != "1":
    setup()
elif "bdist_wheel" not in sys.argv:
    # The front end asks for the requirements before mypyc is installed; the others are those whose types the compiled
    # modules need. Commands that make no wheel, such as an editable install, compile nothing: beside
    # its source, a compiled module would hide edits. The version of mypy is fixed: the tests have passed with this one,
    # and 1.19 to 2.0 make invalid C from the same code.
    setup(setup_requires=["mypy==2.4.*", "numpy", "msgspec>=0.18.6"])
else:
    from mypyc.build import mypycify

    # The types of imported modules are read as far as these are installed. Everything is built in a folder of its own,
    # since setuptools would reuse the files of an earlier build.
    with TemporaryDirectory() as folder:
        arguments = ["--follow-imports=silent", f"--cache-dir={folder}", *COMPILED]
        extensions = mypycify(arguments, target_dir=folder, debug_level="0", group_name="trtlab")
        setup(ext_modules=extensions, options={"build": {"build_base": folder}})
