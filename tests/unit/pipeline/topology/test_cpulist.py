"""The grammar "0-3,8"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.topology.cpulist import format_cpu_list, parse_cpu_list


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", (0,)),
        ("0-3,8", (0, 1, 2, 3, 8)),
        (" 0 - 1 , 4\n", (0, 1, 4)),
        ("8,0-1,1", (0, 1, 8)),
        ("", ()),
        ("127-129,1023", (127, 128, 129, 1023)),
    ],
)
def test_a_list_is_read(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "expected CPUs such as \"0-3,8\", found 'a' in 'a'"),
        ("0,", "expected CPUs such as \"0-3,8\", found '' in '0,'"),
        ("0-3-5", "found '0-3-5'"),
        ("-1", "found '-1'"),
        ("0x3", "found '0x3'"),
        ("3-0", r"expected a rising range of CPUs, found '3-0'; did you mean 0-3\?"),
        ("0-99999999", "expected CPUs below 1048576, found 99999999"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cpu_list(text)


@given(st.sets(st.integers(0, 2000)))
def test_a_set_of_cpus_round_trips(cpus: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == tuple(sorted(cpus))


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_set_is_written_with_as_few_parts_as_it_has_runs(cpus: set[int]) -> None:
    runs = sum(cpu - 1 not in cpus for cpu in cpus)
    assert len(format_cpu_list(cpus).split(",")) == runs
