"""Parameters of requests, tensors and outputs: which have a meaning, of what type they are, and what they say. Pure.

HTTP has them in the JSON, gRPC in a map; here both are dictionaries. `take_...` removes what it has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import KserveError
from pipeline.kserve.values import Parameter, Region, RequestedOutput
from pipeline.wire.limits import LOWEST_PRIORITY

__all__ = [
    "BINARY_OUTPUT",
    "BINARY_SIZE",
    "EMPTY_FINAL",
    "Scheduling",
    "check_parameters",
    "kserve_priority",
    "our_priority",
    "output_parameters",
    "region_parameters",
    "scheduling_of",
    "take_bool",
    "take_output",
    "take_region",
    "take_whole",
]

BINARY_SIZE = "binary_data_size"
BINARY_OUTPUT = "binary_data_output"
EMPTY_FINAL = "triton_enable_empty_final_response"
"""Over a stream: whether an empty response follows the last one."""

_REGION, _REGION_SIZE, _REGION_OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
_RESERVED = "triton_"
_ALLOWED = (EMPTY_FINAL,)
_MOST = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What a request says of when it runs."""

    timeout_us: int = 0
    """0: no limit."""
    priority: int | None = None
    """Ours, 0 the highest; None: the pipeline's default."""
    sequence: int | str = ""
    """Its sequence; empty: none."""
    sequence_start: bool = False
    sequence_end: bool = False


def check_parameters(parameters: Mapping[str, Any], where: str, most: int) -> None:
    """That values are of the four types, and integers of 64 bits.

    Raises:
        KserveError: they are not, or there are more than `most`.
    """
    if len(parameters) > most:
        raise KserveError(f"expected at most {most} parameters of {where}, found {len(parameters)}")
    for name, value in parameters.items():
        if not isinstance(value, (bool, int, float, str)):
            raise KserveError(
                f"parameter {name[:100]!r} of {where}: expected an int, a bool, a string or a double, found "
                f"{type(value).__name__}"
            )
        if isinstance(value, int) and not -(2**63) <= value <= _MOST:
            raise KserveError(f"parameter {name[:100]!r} of {where}: expected an integer of 64 bits, found {value}")


def take_whole(parameters: dict[str, Parameter], name: str, where: str) -> int | None:
    """Removes a whole number of at least 0; None if it is not there.

    Raises:
        KserveError: it is something else.
    """
    value = parameters.pop(name, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise KserveError(f"{name!r} of {where}: expected a whole number of at least 0, found {str(value)[:100]!r}")
    return value


def take_bool(parameters: dict[str, Parameter], name: str, where: str) -> bool | None:
    """Removes a bool; None if it is not there.

    Raises:
        KserveError: it is something else.
    """
    value = parameters.pop(name, None)
    if value is not None and not isinstance(value, bool):
        raise KserveError(f"{name!r} of {where}: expected true or false, found {str(value)[:100]!r}")
    return value


def take_region(parameters: dict[str, Parameter], where: str) -> Region | None:
    """Removes what names a part of shared memory; None if no region is named.

    Raises:
        KserveError: of the wrong type, or a region without its size.
    """
    nbytes = take_whole(parameters, _REGION_SIZE, where)
    offset = take_whole(parameters, _REGION_OFFSET, where)
    name = parameters.pop(_REGION, None)
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise KserveError(f"{_REGION!r} of {where}: expected a name, found {str(name)[:100]!r}")
    if nbytes is None:
        raise KserveError(f"{where} lies in shared memory region {name[:100]!r}: expected {_REGION_SIZE!r} beside it")
    return Region(name, offset or 0, nbytes)


def region_parameters(region: Region) -> dict[str, Parameter]:
    """The reverse of `take_region`."""
    found: dict[str, Parameter] = {_REGION: region.name, _REGION_SIZE: region.nbytes}
    return found | {_REGION_OFFSET: region.offset} if region.offset else found


def take_output(name: str, parameters: dict[str, Parameter]) -> RequestedOutput:
    """A requested output of these parameters, which become the output's own.

    Raises:
        KserveError: of the wrong type, or a classification into shared memory.
    """
    where = f"output {name!r}"
    region = take_region(parameters, where)
    binary = take_bool(parameters, "binary_data", where)
    classes = take_whole(parameters, "classification", where) or 0
    if region is not None and classes:
        raise KserveError(f"{where}: expected at most one of {_REGION!r} and 'classification', found both")
    return RequestedOutput(name, binary, classes, region, parameters)


def output_parameters(output: RequestedOutput) -> dict[str, Parameter]:
    """The reverse of `take_output`."""
    found = dict(output.parameters)
    if output.region is not None:
        found |= region_parameters(output.region)
    if output.binary is not None:
        found["binary_data"] = output.binary
    if output.classes:
        found["classification"] = output.classes
    return found


def our_priority(priority: int) -> int | None:
    """KServe's 0 is the default and 1 the highest; ours has 0 as the highest. None: the default."""
    return min(priority - 1, LOWEST_PRIORITY) if priority else None


def kserve_priority(priority: int | None) -> int:
    """The reverse of `our_priority`."""
    return 0 if priority is None else priority + 1


def scheduling_of(parameters: Mapping[str, Parameter]) -> Scheduling:
    """What the parameters of a request say of when it runs.

    Raises:
        KserveError: of the wrong type, or a reserved name that has no meaning.
    """
    for name in parameters:
        if name.startswith(_RESERVED) and name not in _ALLOWED:
            raise KserveError(
                f"parameter {name[:100]!r}: keys that start with {_RESERVED!r} are reserved; expected none but "
                f"{', '.join(_ALLOWED)}"
            )
    rest, where = dict(parameters), "the request"
    take_bool(rest, EMPTY_FINAL, where)
    sequence = rest.get("sequence_id", "")
    if isinstance(sequence, (bool, float)) or (isinstance(sequence, int) and sequence < 0):
        raise KserveError(f"'sequence_id': expected a whole number of at least 0 or a string, found {sequence}")
    return Scheduling(
        take_whole(rest, "timeout", where) or 0,
        our_priority(take_whole(rest, "priority", where) or 0),
        sequence or "",
        bool(take_bool(rest, "sequence_start", where)),
        bool(take_bool(rest, "sequence_end", where)),
    )
