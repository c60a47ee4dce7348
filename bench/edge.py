"""What cameras cost: configs/edge.yaml over RTSP, 1080p of H.264 at 25 frames each second, of which 5 are wanted.

    python -m bench.edge [--cameras 4] [--seconds 120] [--decode all|unfiltered|keys]

Two films: one in which nothing moves but the noise of a sensor, and one through which a photograph of a person slides
every 20 s. Of each it prints

    cores       the CPU time that the run's processes took, those of the server of RTSP apart
    memory      of all processes, shared pages counted once; and the own pages of each of them at the end, with how
                fast they grew after the first third, in which caches fill (bench.memory has the kinds). That says
                something of runs of half an hour and more
    events      of the second film: from when its frame was decoded to when the line of the event can be read; and from
                when its thing was first found. A thing counts only after three frames, which takes 400 ms of 5 frames
                each second. What camera, network and decoding take before the frame is there is in neither

CPU time is what counts: on a machine that does other work, a core second is one all the same, and waiting takes longer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import quantiles

import psutil

from bench.films import Actor, RtspServer, make_film, repeat_film
from bench.memory import Memory, growth_lines, memory_of
from pipeline.testing import RunningPipeline, running
from pipeline.video.event_log import event_log_of
from pipeline.watching.tail import Tail

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_BUILD = _ROOT / "build" / "bench-edge"
_SIZE = (1920, 1080)
_FILM_S = 20
_TIMES = 30
_BIT_RATE = 4_000_000
"""As cameras have it that send 1080p of H.264."""
_PERSON = Actor(_ROOT / "photos" / "astronaut.jpg", 2, 3, 6, 0.7, 0.95)
_MEMORY_S = 5.0
"""From one look at the memory to the next."""
_SETTLED_S = 15.0
"""After which nothing is looked at any more, since nothing moves."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--films", nargs="+", choices=["quiet", "busy"], default=["quiet", "busy"])
    parser.add_argument("--decode", choices=["all", "unfiltered", "keys"], default="all")
    asked = parser.parse_args(arguments)
    for name in asked.films:
        actors = [_PERSON] if name == "busy" else []
        short = make_film(_BUILD / "once" / f"{name}.mp4", _SIZE, _FILM_S, actors, _BIT_RATE)
        (_BUILD / "served").mkdir(exist_ok=True)
        repeat_film(_BUILD / "served" / f"{name}.mp4", short, _TIMES)
    with closing(RtspServer(_BUILD / "served")) as server:
        for name in asked.films:
            print(f"{name}: {asked.cameras} cameras, {asked.seconds:g} s", flush=True)
            _measure(server, name, asked)


def _measure(server: RtspServer, film: str, asked: argparse.Namespace) -> None:
    names = [f"camera-{'abcdefghijklmnop'[number]}" for number in range(asked.cameras)]
    common = {"url": server.url(f"{film}.mp4"), "fps": 5, "size": [640, 360], "decode": asked.decode}
    sources = [{"name": name, **common} for name in names]
    record = {"dir": str(_BUILD / "recordings")}
    options = [f"sources={json.dumps(sources)}", f"record={json.dumps(record)}"]
    with running(_ROOT / "configs" / "edge.yaml", options) as pipeline:
        while any(camera["state"] != "connected" for camera in pipeline.status()["cameras"]):
            time.sleep(0.1)
        time.sleep(_SETTLED_S)
        tails = [Tail(event_log_of(pipeline.run_dir, name)) for name in names]
        for tail in tails:
            list(tail.read())
        before, sent = _cpu_of(pipeline), _cpu_s(psutil.Process(server.pid))
        began, all_before = time.monotonic(), psutil.cpu_times()
        whole = _memory_of(pipeline)
        memory: dict[str, list[tuple[float, Memory]]] = {}
        looked = _look(pipeline, memory, 0.0)
        was = {camera["name"]: camera for camera in pipeline.status()["cameras"]}
        late: dict[str, list[float]] = {"its frame was decoded": [], "its thing was first found": []}
        while (took := time.monotonic() - began) < asked.seconds:
            for tail in tails:
                for line in tail.read():
                    event = json.loads(line)
                    late["its frame was decoded"].append(time.time() - event["time"])
                    if event["state"] == "begin" and event["rule"] == "object":
                        late["its thing was first found"].append(time.time() - event["start"])
            if took - looked >= _MEMORY_S:
                looked = _look(pipeline, memory, took)
            time.sleep(0.01)
        after, all_after = _cpu_of(pipeline), psutil.cpu_times()
        used = {title: (cpu - before.get(title, 0.0)) / took for title, cpu in after.items()}
        total = sum(used.values())
        busy = sum(getattr(all_after, key) - getattr(all_before, key) for key in ("user", "system", "nice"))
        served = (_cpu_s(psutil.Process(server.pid)) - sent) / took
        given, answered = (
            sum(camera[count] - was[camera["name"]][count] for camera in pipeline.status()["cameras"]) / took
            for count in ("frames", "answered")
        )
        drops = sum((Counter(camera["dropped"]) for camera in pipeline.status()["cameras"]), Counter[str]())
        for tail in tails:
            tail.close()
        rest = busy / took - total - served
        print(f"  cores of the run: {total:.3f}; of the server: {served:.3f}; of all else on this machine: {rest:.2f}")
        titles = sorted(used, key=used.__getitem__, reverse=True)
        print("  " + ", ".join(f"{title} {used[title]:.3f}" for title in titles))
        print(f"  memory: {whole / 2**20:.1f} MiB, after {took:.0f} s {_memory_of(pipeline) / 2**20:.1f} MiB")
        _look(pipeline, memory, took)
        lived = {title: seen for title, seen in memory.items() if (seen[0][0], seen[-1][0]) == (0.0, took)}
        print("\n".join(f"  {line}" for line in growth_lines(lived)))
        print(f"  frames each second: {given:.1f} decoded, {answered:.1f} answered; dropped in all: {dict(drops)}")
        for since, seconds in late.items():
            if len(seconds) > 1:
                p50, *_, p95 = quantiles(seconds, n=100, method="inclusive")[49:95]
                times = f"p50 {1000 * p50:.0f} ms, p95 {1000 * p95:.0f} ms"
                print(f"  an event was told after {since}: {times}, of {len(seconds)}")


def _processes_of(pipeline: RunningPipeline) -> list[psutil.Process]:
    supervisor = psutil.Process(pipeline.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user) + float(times.system)


def _title_of(process: psutil.Process) -> str:
    title = " ".join(process.cmdline()).strip()
    return title.removeprefix("pipeline[edge] ") if title.startswith("pipeline[edge] ") else "supervisor"


def _cpu_of(pipeline: RunningPipeline) -> dict[str, float]:
    found: dict[str, float] = {}
    for process in _processes_of(pipeline):
        title = _title_of(process)
        kind = "sources" if title.startswith("source/") else title.split("/")[0]
        found[kind] = found.get(kind, 0.0) + _cpu_s(process)
    return found


def _look(pipeline: RunningPipeline, memory: dict[str, list[tuple[float, Memory]]], at: float) -> float:
    """Add what each process takes to what was seen of it; when that was."""
    for process in _processes_of(pipeline):
        memory.setdefault(_title_of(process), []).append((at, memory_of(process)))
    return at


def _memory_of(pipeline: RunningPipeline) -> int:
    """Bytes, each that several processes share counted once."""
    return sum(process.memory_full_info().pss for process in _processes_of(pipeline))


if __name__ == "__main__":
    main()
