"""Settings: the trace and log settings of a server, and the registered regions, as each front says them. Pure.

HTTP has them as plain JSON; over gRPC each value is a message of its own. A change is a dictionary, as HTTP has it, and
both fronts answer it with all settings. The defaults are those of Triton 2.51, whose clients know the names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.errors import KserveError

__all__ = [
    "LOG_SETTINGS",
    "TRACE_SETTINGS",
    "RegionEntry",
    "changed_log",
    "changed_trace",
    "log_change",
    "log_message",
    "region_list",
    "region_message",
    "trace_change",
    "trace_message",
]

TRACE_SETTINGS: Mapping[str, str | list[str]] = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
"""Before any change. Values are text, levels a list."""

LOG_SETTINGS: Mapping[str, bool | int | str] = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
"""Before any change."""

_CHOICES = {
    "trace_level": ("OFF", "TIMESTAMPS", "TENSORS"),
    "trace_mode": ("triton", "opentelemetry"),
    "log_format": ("default", "ISO8601"),
}
#: A caller could make the server write to any file of the machine.
_FILES = ("trace_file", "log_file")
_MOST_VERBOSE = 2**32 - 1


def _check_name(name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise KserveError(f"unknown setting {name[:100]!r}: expected one of {', '.join(known)}")
    if name in _FILES:
        raise KserveError(f"{name!r} cannot be set over the network; expected no value, found one")


def changed_trace(current: Mapping[str, str | list[str]], change: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """All trace settings after a change. None, or no value, sets one back to its default.

    Raises:
        KserveError: an unknown name, a file, or a value that it cannot have.
    """
    settings = dict(current)
    for name, value in change.items():
        _check_name(name, TRACE_SETTINGS)
        values = [value] if isinstance(value, str) else value
        if values is None or values == []:
            settings[name] = TRACE_SETTINGS[name]
            continue
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise KserveError(f"{name!r}: expected a string or a list of strings, found {str(value)[:100]!r}")
        if name != "trace_level" and len(values) != 1:
            raise KserveError(f"{name!r}: expected one string, found {len(values)}")
        for each in values:
            if each not in _CHOICES.get(name, (each,)):
                raise KserveError(f"{name!r}: expected one of {', '.join(_CHOICES[name])}, found {each[:100]!r}")
            if name not in _CHOICES and not _is_count(each):
                raise KserveError(f"{name!r}: expected a whole number as a string, found {each[:100]!r}")
        settings[name] = list(values) if name == "trace_level" else values[0]
    return settings


def _is_count(text: str) -> bool:
    return text == "-1" or (text.isascii() and text.isdigit() and len(text) < 10)


def changed_log(current: Mapping[str, bool | int | str], change: Mapping[str, Any]) -> dict[str, bool | int | str]:
    """All log settings after a change.

    Raises:
        KserveError: an unknown name, a file, or a value of another type.
    """
    settings = dict(current)
    for name, value in change.items():
        _check_name(name, LOG_SETTINGS)
        if type(value) is not type(LOG_SETTINGS[name]):
            expected = type(LOG_SETTINGS[name]).__name__
            raise KserveError(f"{name!r}: expected a value of type {expected}, found {str(value)[:100]!r}")
        if isinstance(value, int) and not 0 <= value <= _MOST_VERBOSE:
            raise KserveError(f"{name!r}: expected a number from 0 to {_MOST_VERBOSE}, found {str(value)[:100]}")
        if value not in _CHOICES.get(name, (value,)):
            raise KserveError(f"{name!r}: expected one of {', '.join(_CHOICES[name])}, found {str(value)[:100]!r}")
        settings[name] = value
    return settings


def trace_message(settings: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """The settings for `messages.filled("TraceSettingResponse", ...)`."""
    return {"settings": {name: {"value": [v] if isinstance(v, str) else v} for name, v in settings.items()}}


def trace_change(message: Any) -> dict[str, list[str]]:
    """The change of a TraceSettingRequest."""
    return {name: list(setting.value) for name, setting in message.settings.items()}


_FIELDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}


def log_message(settings: Mapping[str, bool | int | str]) -> dict[str, Any]:
    """The settings for `messages.filled("LogSettingsResponse", ...)`."""
    return {"settings": {name: {_FIELDS[type(value)]: value} for name, value in settings.items()}}


def log_change(message: Any) -> dict[str, bool | int | str | None]:
    """The change of a LogSettingsRequest; None: a setting without a value."""
    change = {}
    for name, setting in message.settings.items():
        field = setting.WhichOneof("parameter_choice")
        change[name] = getattr(setting, field) if field else None
    return change


class RegionEntry(NamedTuple):
    """A registered region of system shared memory."""

    name: str
    key: str
    """Of shm_open."""
    offset: int
    """Bytes from the start of the object."""
    nbytes: int


def region_list(regions: Iterable[RegionEntry]) -> list[dict[str, Any]]:
    """The status of regions over HTTP."""
    return [{"name": r.name, "key": r.key, "offset": r.offset, "byte_size": r.nbytes} for r in regions]


def region_message(regions: Iterable[RegionEntry]) -> dict[str, Any]:
    """The same for `messages.filled("SystemSharedMemoryStatusResponse", ...)`."""
    return {"regions": {region["name"]: region for region in region_list(regions)}}
