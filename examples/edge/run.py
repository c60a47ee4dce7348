"""configs/edge.yaml with two cameras over RTSP, which are films here: `make run-edge`.

It makes the films, has a real server send them, records clips of what happens into build/edge/recordings, and prints
the events as they happen. It ends after the films, or with Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

from bench.films import Actor, RtspServer, make_film

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "edge"
PIPELINE = str(Path(sys.executable).with_name("pipeline"))

#: What runs the cameras. With a live page beside them: ["serve", ...], and its URL is said below. The run ends with
#: this program, however that ends.
COMMAND = ["run", "--serve", "--lifeline"]
PAGE = ""

SIZE = (640, 360)
SECONDS = 24
FILMS = {
    "door": [Actor(ROOT / "photos/astronaut.jpg", 2, 3, 9, 0.8, 0.95)],
    "yard": [Actor(ROOT / "photos/cat.jpg", 4, 4, 3, 0.6, 0.7)],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forever", action="store_true", help="begin the films again, until Ctrl-C")
    forever = parser.parse_args().forever
    # So that the server is ended too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    films = BUILD / "films"
    for name, actors in FILMS.items():
        if not (films / f"{name}.mp4").exists():
            print(f"making build/edge/films/{name}.mp4 ...", flush=True)
        make_film(films / f"{name}.mp4", SIZE, SECONDS, actors)
    server = RtspServer(films)
    try:
        return show(server, None if forever else SECONDS + 4)
    finally:
        server.close()


def show(server: RtspServer, seconds: float | None) -> int:
    """Run the pipeline for so long, and print what happens."""
    sources = [{"name": name, "url": server.url(f"{name}.mp4"), "fps": 5, "size": list(SIZE)} for name in FILMS]
    record = {"dir": str(BUILD / "recordings"), "before_s": 2, "after_s": 3, "rules": ["enter", "loiter"]}
    command = [PIPELINE, *COMMAND, str(ROOT / "configs/edge.yaml"), "--set", f"sources={json.dumps(sources)}"]
    command += ["--set", f"record={json.dumps(record)}"]
    before = set(recordings())
    log_path = BUILD / "run.log"
    # A session of its own: after Ctrl-C it is stopped by us, once what happens was shown.
    with log_path.open("wb") as log:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        run = subprocess.Popen(command, **pipes, text=True, start_new_session=True)
        events = None
        code = 0
        try:
            print("starting configs/edge.yaml; its cameras are films that a server sends over RTSP", flush=True)
            folder = folder_of(run)
            if folder is None:
                print(f"it did not start: {log_path.read_text().strip()}", file=sys.stderr)
                return 1
            print(f"{PAGE}events, as `pipeline events` shows them; Ctrl-C ends it", flush=True)
            events = subprocess.Popen([PIPELINE, "events", folder], start_new_session=True)
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        except KeyboardInterrupt:
            print()
        finally:
            run.send_signal(signal.SIGTERM)
            code = run.wait()
            if events is not None:
                events.wait()
    made = sorted(set(recordings()) - before)
    print(f"recorded: {', '.join(str(path.relative_to(ROOT)) for path in made) or 'nothing'}")
    return code


def folder_of(run: subprocess.Popen[str]) -> str | None:
    """The folder of the run, once it is ready; None: it has ended."""
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("serving "):
            return line.rpartition(" in ")[2].strip()
    return None


def recordings() -> list[Path]:
    return list((BUILD / "recordings").glob("*.mp4"))


if __name__ == "__main__":
    sys.exit(main())
