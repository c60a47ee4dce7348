"""Samples: requests out of files, as `pipeline run` takes them, read before the first one is sent.

At most `MOST` of them, and at most 256 MiB: a load generator sends them again and again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, InvalidRequest
from pipeline.feeding.paths import STDIN, expand
from pipeline.feeding.sources import Intake, Source, Sources, open_file
from pipeline.load.inputs import Stock
from stages.spec import TensorSpec

__all__ = ["MOST", "read_samples"]

MOST = 64
"""Requests that are read."""
_MOST_BYTES = 256 << 20


def read_samples(specs: Sequence[TensorSpec], named: Sequence[str], patterns: Sequence[str], config: str) -> Stock:
    """The requests of files, folders and globs.

    Args:
        specs: the pipeline's inputs.
        named: what the command line, or the config's `run.inputs`, names.
        patterns: which files of a folder are meant.
        config: what messages call the config.

    Raises:
        ConfigError: nothing is there, or a file is no request of this pipeline.
    """
    if STDIN in named:
        raise ConfigError("-: samples are sent again and again, and stdin can be read once; name files")
    expansion = expand(named, patterns)
    if not expansion.files:
        raise ConfigError("\n".join(expansion.empty))
    intake = Intake(specs, config=config)
    sources = Sources(intake, expansion.files, limit=MOST)
    requests: list[Mapping[str, Any]] = []
    nbytes = 0
    for source in islice(iter(sources.take, None), MOST):
        requests.append(_read(intake, source))
        nbytes += sum(array.nbytes for array in requests[-1].values())
        if nbytes > _MOST_BYTES:
            break
    if not requests:
        raise ConfigError(f"{', '.join(named)}: no request in these files")
    return Stock(requests, f"{len(requests)} of {_shown(named)}")


def _read(intake: Intake, source: Source) -> Mapping[str, Any]:
    if source.failure:
        raise ConfigError(f"{source.name}: {source.failure}")
    try:
        if intake.bytes_of is not None and source.path:
            fd, size = open_file(source.path)
            with open(fd, "rb") as stream:
                if size > intake.most_bytes:
                    raise InvalidRequest(f"expected at most {intake.most_bytes} bytes, found {size}")
                return intake.load(Source(source.name, data=stream.read()))
        return intake.load(source)
    except InvalidRequest as error:
        raise ConfigError(f"{source.name}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{source.name}: cannot be read: {error.strerror or error}") from None


def _shown(named: Sequence[str]) -> str:
    few = ", ".join(str(Path(name)) for name in named[:3])
    return few + (f" and {len(named) - 3} more" if len(named) > 3 else "")
