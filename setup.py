"""Compiles what every request passes through, where asked to; pyproject.toml says everything else.

    TRTLAB_COMPILE=1 pip install .      needs a C compiler and Python's headers; pip fetches the rest for the build

mypyc makes C of the typed Python as it stands. Nothing depends on it: without, the same files run as they are.
"""

from __future__ import annotations

import os
import sys
from glob import glob
from tempfile import TemporaryDirectory

from setuptools import setup

# The loops of the scheduler and of the workers. Compiled code raises TypeError where a value is not of its declared
# type: what strangers send was checked by the codec before, and what a user's stage says by `stages.stage.Batch`. No
# function is nested in another that is called for every batch: compiled, those refer to each other, and what they hold
# waits for the garbage collector.
# Not here is worker/recorder.py, which is to be seen in the traceback of a crash. What else was tried: bench/NOTES.md.
COMPILED = [
    *sorted(glob("pipeline/scheduler/[!_]*.py")),
    *(
        f"pipeline/worker/{name}.py"
        for name in ("execution", "exits", "filling", "grouping", "inbox", "member", "packing", "peers")
    ),
    "pipeline/processes/outboxes.py",
    "pipeline/processes/scheduler.py",
    "pipeline/processes/worker.py",
    "shm/pool.py",
    "shm/view.py",
    "stages/engines/transfers.py",
]

if os.environ.get("TRTLAB_COMPILE") != "1":
    setup()
elif "bdist_wheel" not in sys.argv:
    # The front end asks what is required before mypyc is there. Whatever makes no wheel, such as an editable install,
    # compiles nothing: beside its source, a compiled module would hide what is edited. One version of mypy: with this
    # one the tests have passed, and what 1.19 to 2.0 make of the same code is no valid C.
    setup(setup_requires=["mypy==2.4.*", "numpy"])
else:
    from mypyc.build import mypycify

    # Of what the modules import, the types are read as far as they are installed. Everything is built in a folder
    # of its own, for setuptools takes what is left of an earlier build for its own.
    with TemporaryDirectory() as folder:
        arguments = ["--follow-imports=silent", f"--cache-dir={folder}", *COMPILED]
        extensions = mypycify(arguments, target_dir=folder, debug_level="0", group_name="trtlab")
        setup(ext_modules=extensions, options={"build": {"build_base": folder}})
