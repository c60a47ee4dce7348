"""A container without a container runtime: `python container.py JSON` starts a program in namespaces of its own.

    mount      /proc, /tmp and /dev/shm of its own; all else is as outside
    pid        the program is process 1
    user       with the same numbers as outside (started by root), or with a single user (rootless)
    ipc        of its own

The document: `argv`, `env`; for root `user` and `groups` (the first is its own); for rootless `outer`, the user outside,
and `inner`, the user inside; `open`, folders that every user must be able to enter; `probe`: only try it. What the kernel
does not allow ends it with code 77 and one line that says what. It uses nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any, NoReturn

REFUSED = 77

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
_BIND, _REC, _PRIVATE, _NOSUID, _NODEV = 4096, 16384, 1 << 18, 2, 4
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def refuse(what: str, error: OSError) -> NoReturn:
    print(f"this kernel does not allow it: {what}: {error.strerror}", flush=True)
    os._exit(REFUSED)


def _call(what: str, result: int) -> None:
    if result:
        refuse(what, OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _call(
        f"mount {kind or source} at {target}",
        _libc.mount(
            source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), options.encode()
        ),
    )


def _open_folders(folders: list[str]) -> None:
    """Let every user reach these folders: what closes the way to them is covered, with nothing else in it."""
    for folder in folders:
        parts = folder.split("/")[1:]
        ancestors = ["/" + "/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        closed = next((path for path in ancestors if not os.stat(path).st_mode & 0o001), None)
        if closed is None:
            continue
        descriptor = os.open(folder, os.O_PATH)
        _mount("tmpfs", closed, "tmpfs", _NOSUID | _NODEV, "mode=755")
        os.makedirs(folder, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", folder, None, _BIND | _REC)
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        refuse(f"write {path}", error)


def _enter(document: dict[str, Any]) -> None:
    """Enter the namespaces; process 1 of the new pid namespace is the next child."""
    _call("unshare --mount", _libc.unshare(_NEWNS))
    _mount("none", "/", None, _REC | _PRIVATE)
    _open_folders(document["open"])
    if "outer" in document:
        outer, inner = document["outer"], document["inner"]
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(outer, outer, outer)
            os.setresuid(outer, outer, outer)
            # Otherwise its /proc files would belong to root.
            _libc.prctl(4, 1, 0, 0, 0)
        _call("unshare --user --mount --pid --ipc", _libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWIPC))
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{inner} {os_outer(outer)} 1")
        _write("/proc/self/gid_map", f"{inner} {os_outer(outer)} 1")
        return
    # The maps are written by a process outside.
    ready, go = os.pipe(), os.pipe()
    parent = os.getpid()
    if (writer := os.fork()) == 0:
        os.read(ready[0], 1)
        for name in ("uid_map", "gid_map"):
            _write(f"/proc/{parent}/{name}", "0 0 65536")
        os.write(go[1], b"x")
        os._exit(0)
    _call("unshare --user --mount --pid --ipc", _libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWIPC))
    os.write(ready[1], b"x")
    if os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]):
        os._exit(REFUSED)
    for descriptor in (*ready, *go):
        os.close(descriptor)


def os_outer(number: int) -> int:
    return number


def main() -> None:
    document = json.loads(sys.argv[1])
    _enter(document)
    first = os.fork()
    if first:
        # It says who process 1 is, and ends with it; and process 1 ends with this.
        print(f"pid {first}", flush=True)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV)
    # The program itself may lie below one of those that are covered.
    kept = [(folder, os.open(folder, os.O_PATH)) for folder in document["open"] if folder.startswith("/tmp/")]
    for folder in ("/tmp", "/dev/shm"):
        _mount("tmpfs", folder, "tmpfs", _NOSUID | _NODEV, "mode=1777")
    for folder, descriptor in kept:
        os.makedirs(folder, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", folder, None, _BIND | _REC)
        os.close(descriptor)
    if "user" in document:
        own, *_ = groups = document["groups"]
        os.setgroups(groups)
        os.setresgid(own, own, own)
        os.setresuid(document["user"], document["user"], document["user"])
    if document.get("probe"):
        os._exit(0)
    os.chdir("/")
    os.execve(document["argv"][0], document["argv"], document["env"])


if __name__ == "__main__":
    main()
