"""Permissions: files and folders that are this user's alone, or opened to one more group.

The processes of a pod's containers are different users that share a group. What they share is created for its owner
alone, and then opened to the group: so the umask of the process does not matter, and no other group can open it at any
moment between.
"""

from __future__ import annotations

import errno
import os
import stat

from shm.errors import NotInGroup

__all__ = ["is_member", "open_to", "why_closed"]


def open_to(group: int | None, target: int | str | os.PathLike[str], mode: int) -> None:
    """Give a file or folder of this user's to a group, with these permissions.

    Args:
        group: the number of the group; None: only the permissions are set.
        target: a descriptor, or a path.
        mode: the permissions, setgid and sticky bit included.

    Raises:
        NotInGroup: this process is no member of the group, so it may not give it anything.
        OSError: it is gone, or another user's.
    """
    if group is not None:
        try:
            os.chown(target, -1, group)
        except OSError as error:
            # EINVAL: this user namespace has no number for the group.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            # A volume may give all that is made in it to its group by itself, and that needs no membership.
            if os.stat(target).st_gid != group:
                raise NotInGroup(
                    f"{target}: cannot be given to group {group}: this process is user {os.geteuid()} with the groups "
                    f"{_groups()}; add the group to it (Kubernetes: securityContext.fsGroup or supplementalGroups: "
                    f"[{group}]; docker run --group-add {group})"
                ) from error
    # After that: a change of the group clears the setgid bit.
    os.chmod(target, mode)


def is_member(group: int) -> bool:
    """Whether this process is a member of the group, as its own or as a further one."""
    return group == os.getegid() or group in os.getgroups()


def why_closed(path: str | os.PathLike[str]) -> str | None:
    """Why this process may not enter a folder, or open a file; None if its permissions allow it.

    It says which group the process lacks, and where to add it.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    if found.st_uid == os.geteuid() or os.access(path, os.X_OK if stat.S_ISDIR(found.st_mode) else os.R_OK):
        return None
    me = f"this process is user {os.geteuid()} with the groups {_groups()}"
    if not found.st_mode & stat.S_IRWXG:
        return f"{path} is open to user {found.st_uid} alone, and {me}"
    if is_member(found.st_gid):
        return f"{path} is closed to group {found.st_gid} for this process, and {me}"
    return (
        f"{path} is open to user {found.st_uid} and to group {found.st_gid}, and {me}; add group {found.st_gid} to it "
        f"(Kubernetes: securityContext.fsGroup or supplementalGroups: [{found.st_gid}]; docker run --group-add "
        f"{found.st_gid})"
    )


def _groups() -> str:
    return ", ".join(map(str, sorted({os.getegid(), *os.getgroups()})))
