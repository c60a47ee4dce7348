"""The kernel's grammar for sets of CPUs: "0-3,8", as in /sys, taskset(1) and `cpus:` of a config.

Numbers may be any size: nothing here is a mask of 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["format_cpu_list", "parse_cpu_list"]

_PART = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")
MAX_CPU = 1 << 20
"""Far above any machine: a typing error must not fill the memory."""


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs of "0-3,8", rising, each once; none for an empty text.

    Raises:
        ValueError: a part is not a number or a rising range.
    """
    cpus: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f'expected CPUs such as "0-3,8", found {part.strip()!r} in {text!r}')
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"expected a rising range of CPUs, found {part.strip()!r}; did you mean {last}-{first}?")
        if last >= MAX_CPU:
            raise ValueError(f"expected CPUs below {MAX_CPU}, found {last}")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The shortest text that `parse_cpu_list` reads as `cpus`: "0-3,8"."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
