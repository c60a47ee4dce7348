"""Runs examples/ray_serve.py in a Ray of its own, under load, and kills a replica: `test_ray_serve` reads what it prints.

Its interpreter is that of build/ray, which has no pytest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import ray
from ray import serve

from examples.ray_serve import app

ROOT = Path(__file__).parents[2]
DIGITS = sorted((ROOT / "photos/digits").glob("*.png"))


def ask(url: str, counts: Counter[str], replicas: set[int], over: threading.Event) -> None:
    while not over.is_set():
        for path in DIGITS:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, path.read_bytes()), timeout=400) as response:
                    answer = json.loads(response.read())
                replicas.add(answer["replica"])
                counts["right" if answer["digit"] == path.stem else "wrong"] += 1
            except OSError:
                # Ray's proxy has no other answer for a request whose replica was killed.
                counts["lost"] += 1
                time.sleep(0.05)


def until(what: str, holds: object) -> None:
    end = time.monotonic() + 400
    while not holds():  # type: ignore[operator]
        if time.monotonic() > end:
            sys.exit(f"not within 400 s: {what}")
        time.sleep(0.1)


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended. An orphan of the replica is a zombie as long as the test that adopts it, which looks for
    what is left, has not collected it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def begins() -> bool:
    """Whether Ray has started. It gives its own processes half a minute, which cannot be set; once their code is in the
    page cache, they are faster."""
    try:
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20,
            _node_ip_address="127.0.0.1", _temp_dir=sys.argv[2],
        )  # fmt: skip
    except Exception as error:
        print(f"Ray has not started: {error}", file=sys.stderr)
        for log in sorted(Path(sys.argv[2]).glob("session_latest/logs/raylet.*")):
            print(f"the end of {log.name}:", *log.read_text().splitlines()[-20:], sep="\n", file=sys.stderr)
        ray.shutdown()
        return False
    return True


def starts(port: int) -> bool:
    """Whether Serve has started; the time that it gives its proxy for that cannot be set."""
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
    except TimeoutError:
        return False
    return True


def main() -> None:
    port = int(sys.argv[1])
    until("Ray has started", begins)
    until("the proxy has started", lambda: starts(port))
    serve.run(app)
    counts: Counter[str] = Counter()
    replicas: set[int] = set()
    over = threading.Event()
    arguments = (f"http://127.0.0.1:{port}/", counts, replicas, over)
    threads = [threading.Thread(target=ask, args=arguments, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    until("both replicas answer", lambda: len(replicas) == 2)
    victim = psutil.Process(min(replicas))
    family = victim.children(recursive=True)
    replicas.clear()
    os.kill(victim.pid, signal.SIGKILL)
    until("the processes of its pipeline end", lambda: not any(map(lives, family)))
    before = counts["right"]
    until("another replica answers", lambda: len(replicas - {victim.pid}) == 2 and counts["right"] > before + 20)
    over.set()
    for thread in threads:
        thread.join()
    serve.shutdown()
    ray.shutdown()
    print(json.dumps({"family": len(family), **counts}))


if __name__ == "__main__":
    main()
