"""A container's root without a container engine: `python -I rooted.py JSON` does what a runtime does, as root.

    run     a program in mount, pid and IPC namespaces of its own, with `root` as its /: `argv`, `env`, `cwd`, `user`
            and `group` (numbers), `read_only`, `volumes` ({path: folder of the host}), `binds` (the same, read-only),
            `shm_mib`. It prints the pid, as the host has it, of what is process 1 in there.
    exec    another program in the namespaces of process `enter`, as `docker exec` does

What the kernel does not allow ends it with code 77 and one line. It uses nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

REFUSED = 77
_NEWNS, _NEWIPC, _NEWPID = 0x00020000, 0x08000000, 0x20000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_DEVICES = ("full", "null", "random", "urandom", "zero")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result:
        print(f"this kernel does not allow it: {what}: {os.strerror(ctypes.get_errno())}", flush=True)
        os._exit(REFUSED)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    os.makedirs(target, exist_ok=True) if kind or os.path.isdir(source) else open(target, "a").close()
    result = _libc.mount(
        source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _call(f"mount {source} at {target}", result)


def _bind(source: str, target: str, flags: int = 0) -> None:
    _mount(source, target, None, _BIND | _REC)
    if flags:
        _call(f"remount {target}", _libc.mount(None, target.encode(), None, ctypes.c_ulong(_REMOUNT | _BIND | flags), None))


def _enter_root(document: dict[str, Any]) -> None:
    """Mount what a runtime mounts, and make `root` the root."""
    root = document["root"]
    _bind(root, root)
    for path, source in document["binds"].items():
        _bind(source, root + path, _RDONLY)
    for path, source in document["volumes"].items():
        _bind(source, root + path)
    _mount("tmpfs", f"{root}/dev", "tmpfs", _NOSUID, "mode=755")
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{root}/dev/{name}")
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={document['shm_mib']}m")
    _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV)
    if document["read_only"]:
        _call("remount /", _libc.mount(None, root.encode(), None, ctypes.c_ulong(_REMOUNT | _BIND | _RDONLY), None))
    os.chroot(root)


def _become(document: dict[str, Any]) -> None:
    os.chdir(document["cwd"])
    os.umask(0o022)
    os.setgroups([])
    os.setresgid(*[document["group"]] * 3)
    os.setresuid(*[document["user"]] * 3)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = document["argv"][0]
    folders = [""] if "/" in program else document["env"]["PATH"].split(":")
    found = next((path for path in (os.path.join(f, program) for f in folders) if os.access(path, os.X_OK)), None)
    if found is None:
        print(f"{program}: not found in the image", flush=True)
        os._exit(127)
    os.execve(found, document["argv"], document["env"])


def _enter_namespaces(document: dict[str, Any]) -> None:
    process = f"/proc/{document['enter']}"
    root = os.open(f"{process}/root", os.O_PATH)
    for name in ("ipc", "pid", "mnt"):
        descriptor = os.open(f"{process}/ns/{name}", os.O_RDONLY)
        _call(f"setns {name}", _libc.setns(descriptor, 0))
    os.fchdir(root)
    os.chroot(".")


def main() -> None:
    document = json.loads(sys.argv[1])
    if "enter" in document:
        _enter_namespaces(document)
    else:
        _call("unshare", _libc.unshare(_NEWNS | _NEWPID | _NEWIPC))
        _call("mount --make-rprivate /", _libc.mount(b"none", b"/", None, ctypes.c_ulong(_REC | _PRIVATE), None))
    first = os.fork()
    if first == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
        if "enter" not in document:
            _enter_root(document)
        _become(document)
    if "enter" not in document:
        print(f"pid {first}", flush=True)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)


if __name__ == "__main__":
    main()
