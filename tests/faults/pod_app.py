"""An application of a pod, as its container runs it: `python pod_app.py WHAT ...`. It prints what happens, line by line."""

from __future__ import annotations

import fcntl
import os
import random
import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgpack
import numpy as np
import zmq

from pipeline.client import Client
from pipeline.errors import PipelineError, RequestError
from pipeline.wire.codec import encode
from pipeline.wire.messages import (
    PROTOCOL,
    Answers,
    AskStatus,
    Bye,
    Cancel,
    Drain,
    Gone,
    Hello,
    Kept,
    Ready,
    Refused,
    Retire,
    StageBroken,
    Stop,
    Submission,
    Submit,
    WorkerGone,
)
from shm.handle import TensorHandle
from tests.integration.raw_client import RawClient

SEGMENTS = Path(os.environ["SEGMENTS"])


def say(*words: object) -> None:
    print(*words, flush=True)


def once() -> None:
    """One request; its answer, or the error."""
    try:
        with (
            Client.connect(sys.argv[3] if len(sys.argv) > 3 else "pod", timeout_s=float(sys.argv[2])) as client,
            client.submit(data=np.frombuffer(b"hello" * 100, np.uint8)).get(200) as result,
        ):
            array = result["data"]
            say("answer", array.tobytes()[-5:].decode(), "of", array.size, "writable", array.flags.writeable)
    except PipelineError as error:
        say(type(error).__name__, error)


def load() -> None:
    """Requests for ever, three under way, each compared with its answer; after an outage it goes on."""
    number = 0
    client = Client.connect("pod", name="load", timeout_s=60)
    while True:
        try:
            sent = [(n, client.submit(data=_bytes(n))) for n in range(number, number + 3)]
            for n, future in sent:
                with future.get(200) as result:
                    if result["data"].tobytes() != _bytes(n):
                        say("WRONG", n)
                        sys.exit(1)
            number += 3
            say("ok", number)
        except RequestError as error:
            say("lost", type(error).__name__, error)
            client.reconnect(60)
            say("back")


def _bytes(number: int) -> bytes:
    return np.full(64, number % 251, np.uint8).tobytes()


def newer() -> None:
    """A hello of the next version; what the scheduler says to it, in the form that every version reads."""
    with RawClient(_run()) as raw:
        raw.send_frame(msgpack.packb([PROTOCOL + 1, 1, raw.number, "of tomorrow"]))
        say("told", *raw.document())


def look() -> None:
    """What this user may do with the files of the pod: r and w, or - for nothing."""
    for path in sorted(SEGMENTS.glob("trtlab.*")):
        say(path.name.split(".")[2], _may(path))
    for name in ("supervisor.sock", "scheduler.sock", "w0.sock", "owner.lock", "scheduler.lock", "segments", "clients"):
        say(name, _may(_run() / name))


def truncate() -> None:
    """A segment that clients write loses its slots."""
    (path,) = SEGMENTS.glob("trtlab.*.ingress-0.*")
    os.truncate(path, int(sys.argv[2]))
    say("done")


def replace() -> None:
    """A file of this user's in the place of each segment, as like it as can be."""
    for path in SEGMENTS.glob("trtlab.*"):
        content = path.read_bytes() if os.access(path, os.R_OK) else bytes(4096)
        path.unlink()
        path.write_bytes(content)
        path.chmod(0o666)
    say("done")


def fill() -> None:
    """The folder of the segments is filled to its last page."""
    with open(SEGMENTS / "full", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError as error:
                say("done", error.strerror)
                return


def attack() -> None:
    """Everything that a member of the group can send, and lock."""
    run = _run()
    with RawClient(run) as raw:
        raw.join()
        # Handles that name no bytes of this client's, in a slot that is.
        for forged in ({"slot": 99}, {"slot": -1}, {"generation": 1 << 40}, {"offset": 1 << 40}, {"segment": 7}, {"shape": (1 << 40,)}):
            slot = raw.slot()
            handle = TensorHandle(*slot, 0, "uint8", (4,))._replace(**forged)
            tag = next(raw._tags)
            raw.send(Submit(raw.number, raw._seen, (Submission(tag, slot, (handle,), 0, 0, ""),), ()))
            say("forged", next(iter(forged)), raw.answer(tag).code)
        # What only the run's own processes may say.
        for message in (
            Stop(),
            Drain(0),
            WorkerGone(0, "it is said", (), False, False),
            WorkerGone(1, "it is said", (), False, False),
            StageBroken(0, "it is said"),
            Retire(0),
            Ready(9, 0, 0, 1, 0),
            Kept(1, ""),
        ):
            raw.send(message)
        # In the names of others, whose sockets all processes of the pod can list.
        others = [int(number, 16) for number in re.findall(r"/clients/([0-9a-f]+)\.sock", Path("/proc/net/unix").read_text())]
        for number in {*others, *(int(number, 16) for number in sys.argv[2:])} - {raw.number}:
            say("in the name of", f"{number:x}")
            raw.send(Bye(number, ()))
            raw.send(Cancel(number, tuple(range(1000))))
            raw.send(Hello(number, "an impostor"))
        # To others, as if this were the scheduler: by their sockets, and by a name of their sockets that is its own.
        for number in {*others, *(int(number, 16) for number in sys.argv[2:])} - {raw.number}:
            with RawClient(run) as impostor, zmq.Context.instance().socket(zmq.PUSH) as to_other:
                to_other.setsockopt(zmq.SNDHWM, 0)
                to_other.setsockopt(zmq.LINGER, 0)
                to_other.connect(f"ipc://{run}/clients/{number:x}.sock")
                for message in (Gone(99, "it is said"), Refused(PROTOCOL, "it is said", 0), *(Answers(n, (), (), 0) for n in range(999))):
                    to_other.send(encode(message))
                own = run / "clients" / f"{impostor.number:x}.sock"
                own.unlink()
                own.symlink_to(f"{number:x}.sock")
                # Of another version: it would be told so. Then its own hello, and status, which would be the other's.
                impostor.send_frame(msgpack.packb([PROTOCOL + 1, 1, number, "of tomorrow"]))
                impostor.send(Hello(impostor.number, "an impostor"))
                impostor.send(AskStatus(impostor.number))
                time.sleep(0.5)
                # A dead lock by another spelling of the other's number.
                (run / "clients" / f"0x{number:x}.lock").write_text("pid 1 start 1\n")
                own.unlink()
        # Locks: a reader's, which are granted if the owner does not hold its own.
        for name in ("owner.lock", "scheduler.lock"):
            fd = os.open(run / name, os.O_RDONLY)
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in ("supervisor.sock", "w0.sock"):
            with socket.socket(socket.AF_UNIX) as plain:
                try:
                    plain.connect(str(run / name))
                    say("connected to", name)
                except OSError as error:
                    say(name, error.strerror)
        rng = random.Random(7)
        for _ in range(20_000):
            raw.send_frame(rng.randbytes(rng.randrange(40)))
        for _ in range(200):
            raw.send_frame(bytes(1 << 20))
        # After all that has been taken in, it is a client like any other.
        data = raw.answer(raw.submit(b"still here"), 120)
        say("done", data.code or "OK")
    time.sleep(3600)


def litter() -> None:
    """All that a file system allows a member of the group, in the folders of the run; each hello names some of it."""
    run = _run()
    clients = run / "clients"
    others = [Path(name) for name in re.findall(rf"{clients}/[0-9a-f]+\.sock", Path("/proc/net/unix").read_text())]
    other = others[0]
    made: dict[int, Callable[[Path, Path], object]] = {
        0xA1: lambda lock, socket: (os.mkfifo(lock), os.mkfifo(socket)),
        0xA2: lambda lock, socket: (lock.mkdir(), socket.mkdir()),
        0xA3: lambda lock, socket: (lock.symlink_to("/etc/passwd"), socket.symlink_to(other.name)),
        0xA4: lambda lock, socket: (lock.symlink_to(other.with_suffix(".lock").name), socket.symlink_to("../supervisor.sock")),
        0xA5: lambda lock, socket: (lock.write_bytes(b"pid 1 start 1 strong\n"), socket.symlink_to("../scheduler.sock")),
        0xA6: lambda lock, socket: (lock.write_bytes(bytes(1000)), socket.touch()),
        0xA7: lambda lock, socket: (lock.symlink_to(lock.name), socket.symlink_to(socket.name)),
    }
    with RawClient(run) as raw:
        raw.join()
        for number, make in made.items():
            make(clients / f"{number:x}.lock", clients / f"{number:x}.sock")
            raw.send(Hello(number, "litter"))
            raw.send(AskStatus(number))
            raw.send_frame(msgpack.packb([PROTOCOL + 1, 1, number, "of tomorrow"]))
        for what, change in {
            "rename": lambda: other.rename(clients / "mine.sock"),
            "replace": lambda: (clients / "a6.sock").replace(other),
            "unlink": other.unlink,
            "unlink a lock": other.with_suffix(".lock").unlink,
            "chmod": lambda: os.chmod(other.with_suffix(".lock"), 0o777),
            "chown": lambda: os.chown(other.with_suffix(".lock"), os.getuid(), -1),
            "truncate": lambda: os.truncate(other.with_suffix(".lock"), 0),
            "truncate a lock of the run": lambda: os.truncate(run / "owner.lock", 0),
            "list": lambda: os.listdir(clients),
            "make in the run": (run / "successor").touch,
            "link": lambda: (run / "successor").symlink_to("/tmp"),
            "rename the clients": lambda: clients.rename(run / "old"),
            **{
                f"truncate {path.name.split('.')[2]}": partial(os.truncate, path, 0)
                for path in SEGMENTS.glob("trtlab.*")
                if "ingress" not in path.name
            },
            "another hello": lambda: raw.send(Hello(raw.number, "x" * 100_000)),
        }.items():
            try:
                change()
                say("allowed", what)
            except OSError as error:
                say("refused", what, type(error).__name__)
        for number in range(3000):
            (clients / f"{1 << 40 | number:x}.lock").write_bytes(b"pid 1 start 1\n")
        (clients / "deep").mkdir(0o700)
        (clients / "deep" / "file").touch()
        say("answer", raw.answer(raw.submit(b"still here"), 60).code or "OK")
    say("done")
    time.sleep(3600)


def hold() -> None:
    """Wait with the locks of others, which this process takes as soon as it can; it says which."""
    run = _run()
    descriptors = [os.open(run / name, os.O_RDONLY) for name in ("owner.lock", "scheduler.lock")]
    say("waits")
    while descriptors:
        for fd in list(descriptors):
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                record = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, record)
                descriptors.remove(fd)
                say("has a lock")
    time.sleep(3600)


def _run() -> Path:
    (found,) = Path(os.environ["TRTLAB_RUN_DIR"]).iterdir()
    return found


def _may(path: Path) -> str:
    return "".join(letter for letter, flag in (("r", os.R_OK), ("w", os.W_OK)) if os.access(path, flag)) or "-"


if __name__ == "__main__":
    globals()[sys.argv[1]]()
