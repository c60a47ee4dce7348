"""Counts: what a request of the relay costs that does not depend on how busy the machine is.

    python -m bench.counts                      # 1, 16 and 64 requests in flight

For each process: CPU time (its main thread + its other threads, which are ZeroMQ's), and wake-ups, which are its
threads' voluntary context switches (/proc/<pid>/task/*/status). If `perf` is there and may be used, also system calls
(the tracepoints raw_syscalls:sys_enter and some of single calls); it slows the processes by some percent. CPU time does
depend on the machine, though less than wall time: compare it by turns only.

A worker that has nothing to do holds notices back for 5 ms at most. So the slower the machine, the fewer of them share
a message, and with one request in flight there are up to two messages a request more.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.relay import PipelineRelay
from pipeline.wire.links import LINKS

__all__ = ["Calls", "Costs", "costs_of", "counts_in", "main", "spent", "threads_of"]

_CALLS = ("getpid", "poll", "epoll_wait", "epoll_ctl", "read", "write", "sendto", "recvfrom")

_EVENTS = ",".join(["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{name}" for name in _CALLS)])

Threads = dict[str, tuple[int, int]]
"""Of each thread of a process, by its number: nanoseconds on a CPU, and voluntary context switches."""


def threads_of(pid: int) -> Threads:
    """What the threads of a process have used so far; those that end meanwhile are left out."""
    found: Threads = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{pid}/task/{task}")
            switches = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (folder / "status").read_text(), re.MULTILINE)
            if switches is not None:
                found[task] = int((folder / "schedstat").read_text().split()[0]), int(switches[1])
    return found


class Calls:
    """Counts the system calls of processes while it is entered, if `perf` can."""

    def __init__(self, pids: Iterable[int], folder: Path) -> None:
        self._files = {pid: folder / f"{pid}.txt" for pid in pids}
        self._running: list[subprocess.Popen[bytes]] = []
        #: By process and name; "all" is every one.
        self.found: dict[int, dict[str, int]] = {}

    def __enter__(self) -> Calls:
        if shutil.which("perf") is not None:
            for pid, file in self._files.items():
                command = ["perf", "stat", "-x,", "-e", _EVENTS, "-o", str(file), "-p", str(pid)]
                self._running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.send_signal(signal.SIGINT)
        for process in self._running:
            process.wait()
        for pid, file in self._files.items():
            if file.exists() and (counted := counts_in(file.read_text())):
                self.found[pid] = counted


def counts_in(text: str) -> dict[str, int]:
    """The counts in what `perf stat -x,` writes, by the name of the call; "all" is every one."""
    counted = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            counted[fields[2].rpartition("sys_enter")[2].lstrip("_") or "all"] = int(fields[0])
    return counted


class Costs(NamedTuple):
    """What one request has cost all processes of a relay, its caller included."""

    wakes: float
    """Wake-ups."""
    cpu_us: float
    """Time on a CPU, microseconds."""


def costs_of(relay: PipelineRelay, size: int, bursts: int) -> Costs:
    """What a request costs in bursts of so many, each sent when the one before it is answered.

    In such bursts the numbers of messages and wake-ups follow from what was sent, and hardly from when: all of a burst
    is there before the first process turns to it.
    """
    pids = [pid for group, pids in relay.pids().items() if group != "supervisor" for pid in pids]
    before = {pid: threads_of(pid) for pid in pids}
    for _ in range(bursts):
        relay.burst(size)
    found = [spent(pid, before[pid], threads_of(pid), size * bursts) for pid in pids]
    return Costs(sum([wakes for _, _, wakes in found]), sum([main + others for main, others, _ in found]))


def _measure(relay: PipelineRelay, names: Mapping[int, str], window: int, seconds: float, folder: Path) -> None:
    before = {pid: threads_of(pid) for pid in names}
    with Calls(names, folder) as calls:
        before = {pid: threads_of(pid) for pid in names}
        requests = len(relay.latency(seconds)) if window == 1 else relay.throughput(seconds, window).requests
        after = {pid: threads_of(pid) for pid in names}
    print(f"{window} in flight, {requests} requests, load {os.getloadavg()[0]:.1f}; a request:")
    totals = [0.0, 0.0, 0.0]
    for pid, name in names.items():
        main, others, wakes = spent(pid, before[pid], after[pid], requests)
        made = calls.found.get(pid, {}).get("all", 0) / requests
        totals = [totals[0] + main + others, totals[1] + wakes, totals[2] + made]
        print(f"  {name:12} {main:7.1f} + {others:5.1f} us {wakes:6.2f} wake-ups {_calls(made)}")
    print(f"  {'in all':12} {totals[0]:15.1f} us {totals[1]:6.2f} wake-ups {_calls(totals[2])}")
    if calls.found:
        by_call = [(name, sum(each.get(name, 0) for each in calls.found.values()) / requests) for name in _CALLS]
        print("  " + ", ".join(f"{name} {count:.1f}" for name, count in by_call))


def spent(pid: int, before: Threads, after: Threads, requests: int) -> tuple[float, float, float]:
    """CPU microseconds of the main thread and of the others, and wake-ups, each a request."""
    main = others = wakes = 0
    for task, (ran, switched) in after.items():
        ran_before, switched_before = before.get(task, (0, 0))
        wakes += switched - switched_before
        if task == str(pid):
            main += ran - ran_before
        else:
            others += ran - ran_before
    return main / requests / 1e3, others / requests / 1e3, wakes / requests


def _calls(count: float) -> str:
    return f"{count:7.1f} system calls" if count else "        (no perf: system calls are not counted)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    what = "CPU time, wake-ups and system calls a request."
    parser = argparse.ArgumentParser(prog="python -m bench.counts", description=what)
    parser.add_argument("--windows", default="1,16,64", help="requests in flight, comma-separated")
    parser.add_argument("--link", choices=LINKS, default="zmq", help="what carries the messages")
    parser.add_argument("--bytes", type=int, default=602_112, help="of a tensor")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each window")
    options = parser.parse_args(arguments)
    relay = PipelineRelay(link=options.link)
    gc.disable()
    try:
        relay.setup(options.bytes, 64)
        groups = {group: pids for group, pids in relay.pids().items() if group != "supervisor"}
        numbered = [(group, at, pid) for group, pids in groups.items() for at, pid in enumerate(pids)]
        names = {pid: group if len(groups[group]) == 1 else f"{group} {at}" for group, at, pid in numbered}
        relay.latency(0.2)
        with tempfile.TemporaryDirectory() as folder:
            for window in map(int, options.windows.split(",")):
                _measure(relay, names, window, options.seconds, Path(folder))
    finally:
        relay.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
