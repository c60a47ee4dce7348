"""`pipeline replay`: run the one request of a capsule through its stage, here in the foreground."""

from __future__ import annotations

import faulthandler
import json
import pdb
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pipeline.supervisor.capsule import Capsule, read_capsule
from shm.elements import stored_shape
from shm.handle import BYTES, JSON
from stages.declared import declared
from stages.errors import text_of
from stages.loading import load_stage
from stages.request import RequestInfo
from stages.stage import Stage, StageContext
from stages.testing import MemoryBatch, batch_of

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(replay)


def replay(
    capsule: Annotated[Path, typer.Argument(help="A .cap file of the capsules folder.", show_default=False)],
    debugger: Annotated[bool, typer.Option("--debugger", help="Stop in pdb before `process`.")] = False,
) -> None:
    """Run a request that killed its worker once more, in this process, under faulthandler."""
    # A crash in C shows the Python line that led there.
    faulthandler.enable(all_threads=True)
    found = read_capsule(capsule)
    print(f"{found.pipeline}: stage {found.stage} ({found.use}), {found.time}")
    request = RequestInfo.parse(found.request)
    if found.request:
        print(f"request {request}")
    print(f"it died: {found.how}")
    for name, given in found.inputs.items():
        for number, array in enumerate(given if isinstance(given, list) else [given]):
            which = f"{name}[{number}]" if isinstance(given, list) else name
            what = "missing" if array is None else _described(array)
            print(f"input {which}: {what}")
    sys.stdout.flush()
    sys.path.append(found.base_dir)
    stage = load_stage(found.use, found.options, Path(found.base_dir))
    if (setup := declared(stage).setup) is not None:
        setup(StageContext(stage=found.stage, threads=found.threads))
    try:
        batch = _process(stage, found, request, debugger)
    except (Exception, SystemExit):
        traceback.print_exc()
        sys.exit(1)
    for row, error in batch.failed.items():
        print(f"row {row} failed: {type(error).__name__}: {text_of(error)}")
    for spec in stage.outputs:
        for row in range(found.rows) if spec.alias_of is None else ():
            if row not in batch.failed:
                which = f"{spec.name} of row {row}" if found.rows > 1 else spec.name
                print(f"output {which}: {_brief(batch.result(row, spec.name))}")
    print("it did not crash this time")


def _process(stage: Stage, found: Capsule, request: RequestInfo, debugger: bool) -> MemoryBatch:
    documents = {spec.name for spec in stage.inputs if spec.dtype == JSON}
    batch = batch_of(
        stage,
        [request] * found.rows,
        **{name: _values(given, name in documents, found.rows) for name, given in found.inputs.items()},
    )
    process = stage.process
    if debugger:
        print("`s` steps into process(batch); `c` goes on")
        returned = pdb.runcall(process, batch)
    else:
        returned = process(batch)
    batch.take(returned)
    return batch


def _values(given: Any, document: bool, rows: int) -> list[Any]:
    """One input as `batch_of` takes it, of each row."""
    # With the ellipsis a row without dimensions is an array too.
    return [_value(given, document)] if rows == 1 else [given[row, ...] for row in range(rows)]


def _value(given: Any, document: bool) -> Any:
    """One input as `batch_of` takes it."""
    if isinstance(given, list):
        return [_value(one, document) for one in given]
    return json.loads(given.tobytes()) if document and given is not None else given


def _described(array: Any) -> str:
    if array.dtype.hasobject:
        return f"{BYTES} {list(array.shape)}, {stored_shape(array)[-1]} bytes"
    return f"{array.dtype} {list(array.shape)}, {array.nbytes} bytes"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        dtype = BYTES if value.dtype.hasobject else value.dtype
        return f"{dtype} {list(value.shape)} {np.array2string(value.reshape(-1), threshold=8)}"
    return repr(value)
