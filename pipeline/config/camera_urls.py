"""Camera URLs: what kind of camera a `url` names, what of it may be shown, and where its secrets come from. Pure.

A password comes from a variable of the environment or from a file, and is put into the URL in the source's process
alone: configs, plans and boot documents have `${NAME}` in its place.

    rtsp://admin:${DOOR}@10.0.0.7/live?token=1     as it is written, and in plans
    rtsp://10.0.0.7/live                           what people are shown
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from pipeline.config.expansion import expand_text

__all__ = ["Kind", "Target", "has_password", "kind_of", "shown_url", "target_of", "user_of"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCENE = re.compile(r"synthetic(:|$)")
#: What stands before the host: rtsp://USER:PASSWORD@. The last @ before the path, as in a password that has one.
_USERINFO = re.compile(r"(?<=://)[^/?#]*(?=@)")
#: The same of a password with a slash, a ? or a #, which FFmpeg takes for the end of the host: what stands there as its
#: port is none.
_CUT_USERINFO = re.compile(r"(?<=://)[^/?#@\[\]]*:(?!(?:\d|\$\{\w+\})*[/?#])[^/?#@]*[/?#].*(?=@)")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_HIDDEN = "***"


class Kind(Enum):
    """What a camera is."""

    RTSP = "a camera over RTSP"
    HTTP = "a camera over HTTP"
    DEVICE = "a device of V4L2"
    FILE = "a file"
    SCENE = "a synthetic scene"

    @property
    def waits(self) -> bool:
        """Whether its frames can wait for the pipeline, and none is lost meanwhile."""
        return self in (Kind.FILE, Kind.SCENE)


_KINDS = {"rtsp": Kind.RTSP, "rtsps": Kind.RTSP, "http": Kind.HTTP, "https": Kind.HTTP}


def kind_of(url: str) -> Kind | None:
    """What a URL names. None: it begins with a variable, and may be of any kind.

    Raises:
        ValueError: its scheme is not one of a camera; the message has the scheme alone.
    """
    if _SCENE.match(url):
        return Kind.SCENE
    if (scheme := _SCHEME.match(url)) is not None:
        kind = _KINDS.get(scheme[1].lower())
        if kind is None:
            raise ValueError(f"expected rtsp://, rtsps://, http:// or https://, found {scheme[1]}://")
        return kind
    if url.startswith("/dev/"):
        return Kind.DEVICE
    first = _VARIABLE.match(url)
    # A folder in a variable is followed by a path.
    return None if first is not None and not url[first.end() :].startswith("/") else Kind.FILE


def has_password(url: str) -> bool:
    """Whether a URL, as it was written, has a password in it that is not a variable without a default."""
    found = _login_in(url)
    if found is None or ":" not in found[0]:
        return False
    password = found[0].partition(":")[2]
    return bool(_VARIABLE.sub("", password))


def _login_in(url: str) -> re.Match[str] | None:
    """What must not be shown before the host of a URL, as it was meant."""
    return _USERINFO.search(url) or _CUT_USERINFO.search(url)


def user_of(url: str) -> str:
    """The user that a URL names; "" if it names none."""
    found = _USERINFO.search(url)
    return "" if found is None else found[0].partition(":")[0]


def shown_url(url: str) -> str:
    """What people may be shown of a URL: neither its user and password nor its query."""
    if _SCHEME.match(url) is None:
        return url
    if (login := _login_in(url)) is not None:
        url = url[: login.start()] + url[login.end() + 1 :]
    return url.partition("?")[0].partition("#")[0]


class Target(NamedTuple):
    """Where a camera is, as the source opens it. It holds secrets: only `shown` and `redacted` may be printed."""

    kind: Kind
    url: str
    secrets: tuple[str, ...]
    shown: str

    def redacted(self, text: str) -> str:
        """A text of another program's with the secrets taken out."""
        # The longest first: one secret may be a part of another one.
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return text

    def __repr__(self) -> str:
        return f"<Target {self.shown}>"


def target_of(
    url: str, password_file: str, base_dir: Path, environment: Mapping[str, str], read: Callable[[Path], str]
) -> Target:
    """A camera's place, with its secrets.

    Args:
        url: as it was written.
        password_file: the file of the password; empty: none.
        base_dir: to which paths are relative.
        read: the text of a file.

    Raises:
        KeyError: a variable is not set.
        OSError: the password cannot be read.
        ValueError: it names no camera; no secret is in the message.
    """
    secrets = [environment[name[2:-1]] for name in _VARIABLE.findall(url) if name[2:-1] in environment]
    if (userinfo := _USERINFO.search(url)) is not None:
        # A password may have any character; in a URL some of them have a meaning.
        quoted = {name: quote(value, safe="") for name, value in environment.items()}
        login = expand_text(userinfo[0], quoted)
        secrets += [quote(secret, safe="") for secret in secrets]
        if password_file:
            # The first line: editors put a newline at the end.
            password = next(iter(read(base_dir / password_file).splitlines()), "")
            secrets += [password, quote(password, safe="")]
            login = f"{login.partition(':')[0]}:{quote(password, safe='')}"
        front, back = url[: userinfo.start()], url[userinfo.end() :]
        full = f"{expand_text(front, environment)}{login}{expand_text(back, environment)}"
    else:
        full = expand_text(url, environment)
    if (found := _login_in(full)) is not None:
        # Of a URL that is a variable as a whole.
        secrets += [found[0], found[0].partition(":")[2]]
    kind = kind_of(full) or Kind.FILE
    if kind is Kind.FILE:
        full = str(base_dir / full)
    shown = shown_url(url) if kind_of(url) is not None else shown_url(full) if _SCHEME.match(full) else url
    return Target(kind, full, (full, *dict.fromkeys(secrets)), shown)
