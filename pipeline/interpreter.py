"""Interpreter: the command line of a fresh Python that runs one of our modules.

All code that spawns a process of ours uses it. `python -m` would put the current folder before everything else, so that
a user's `queue.py`, `types.py` or `stages.py` would be imported in place of the standard library's or ours. Here the
user's folders come last: what lies in them can be imported, and hides nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["NO_MATRICES", "python_command"]

#: Variables for a process that multiplies no matrices. Without them, numpy's OpenBLAS starts a thread for each CPU as
#: it is imported, and each is busy for some 50 ms while workers start or work.
NO_MATRICES = {"OPENBLAS_NUM_THREADS": "1"}

_ROOT = str(Path(__file__).resolve().parents[1])


def python_command(module: str, *, folders: Iterable[str] = ()) -> list[str]:
    """What to spawn to have `module`'s `main()` called in a process of its own; arguments may be added.

    Args:
        module: one of ours, with a function `main()`.
        folders: where else to import from, before the current folder and after everything else.
    """
    # Only what the interpreter has imported already may be imported before the path is in order;
    # "" is the current folder, also if -P or PYTHONSAFEPATH has left it out.
    # Our own root stands before them: an editable install may find us by a hook that Python asks last.
    path = f"[entry for entry in sys.path if entry] + {[_ROOT, *folders, '']!r}"
    # A tenth of the time of an import would be a search for garbage among modules, which stay; nor are they searched
    # later.
    return [
        sys.executable, "-c",
        f"import gc, sys; gc.disable(); sys.path[:] = {path}; from {module} import main; "
        "gc.freeze(); gc.enable(); main()",
    ]
