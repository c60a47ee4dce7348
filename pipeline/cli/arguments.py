"""Arguments that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError, StartError
from pipeline.logs.log import OperatorLog
from pipeline.logs.settings import LogSettings
from stages.errors import ModelError

__all__ = [
    "EXIT_CONFIG",
    "EXIT_START",
    "AccessLogOption",
    "BatchSizeOption",
    "ConfigArgument",
    "DeadlineOption",
    "InputOption",
    "JsonReportOption",
    "LogFileOption",
    "LogFormatOption",
    "LogLevelOption",
    "MaxOutstandingOption",
    "ModelOption",
    "SetOption",
    "ShapeOption",
    "TargetArgument",
    "TimeoutOption",
    "TokenOption",
    "is_config",
    "log_settings",
    "told",
]  # fmt: skip

EXIT_CONFIG = 2
EXIT_START = 3

_SUFFIXES = (".yaml", ".yml")


def is_config(target: str) -> bool:
    """Whether an argument that may be a config or the name of a run is a config."""
    return target.endswith(_SUFFIXES) or os.path.isfile(target)


ConfigArgument = Annotated[Path, typer.Argument(help="The pipeline's YAML file.", show_default=False)]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change the config: inference.batch.max_size=16, inference.engine=tensorrt, drain_s=1. Repeatable.",
        show_default=False,
    ),
]

# -- of what keeps a log -----------------------------------------------------------------------------

class LogFormat(str, Enum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(str, Enum):
    """The least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogFormatOption = Annotated[
    LogFormat | None,
    typer.Option(
        "--log-format", help="Lines for people, with their time; or one JSON object a line. Default: text, to stderr "
        "without the time.", show_default=False,
    ),
]  # fmt: skip
LogLevelOption = Annotated[
    LogLevel | None,
    typer.Option("--log-level", help="The least level that is written. Default: info.", show_default=False),
]
LogFileOption = Annotated[
    Path | None,
    typer.Option(
        "--log-file", metavar="FILE", help="Add to this file instead of stderr; SIGUSR1 opens it anew.",
        show_default=False,
    ),
]  # fmt: skip
AccessLogOption = Annotated[bool, typer.Option("--access-log", help="One line for each request, too.")]


def log_settings(
    form: LogFormat | None, level: LogLevel | None, file: Path | None, *, access: bool = False
) -> LogSettings:
    """What these options say, as one value."""
    return LogSettings(
        "" if form is None else form.value, "" if level is None else level.value,
        "" if file is None else str(file.absolute()), access,
    )  # fmt: skip


@contextmanager
def told(log: OperatorLog) -> Iterator[None]:
    """Within the block, the errors with which a command ends are told by the log, if it is not for people alone."""
    try:
        yield
    except (ConfigError, StartError, ModelError) as error:
        if log.settings.for_people:
            raise
        log("error", str(error))
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_START)


# -- of the load generators; those of tensorrt-laboratory are spelled with `_` there --------------------

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|URL",
        help="A pipeline that runs on this host, by name or by the run's id; or grpc://HOST:PORT or http://HOST:PORT "
        "of a server of KServe v2.",
        show_default=False,
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", "--batch_size", min=1, metavar="N", help="Rows of each request.")
]
MaxOutstandingOption = Annotated[
    int,
    typer.Option(
        "--max-outstanding", "--max_outstanding", min=1, metavar="N", help="Requests without an answer at most."
    ),
]
InputOption = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="NAME=FILE",
        help="What an input carries: a .npy file, a picture, a JSON document. Repeatable; default: random values.",
        show_default=False,
    ),
]
ShapeOption = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=N,N",
        help="The shape of random values, if a dimension is free. Repeatable.",
        show_default=False,
    ),
]
DeadlineOption = Annotated[
    float | None,
    typer.Option("--deadline-ms", "--deadline_ms", metavar="MS", help="Of each request.", show_default=False),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.0, metavar="S", help="Seconds to wait for the last answers.")
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Of a server with several models.", show_default=False)
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", help="A file with the bearer token that the server wants.", show_default=False),
]
JsonReportOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]

AnswerOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, metavar="S", help="Seconds that the run's scheduler has for its answer."),
]
"""Of a command that shows how a run is."""
