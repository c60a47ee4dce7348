"""TLS: what is wrong with PEM files that a caller has named, in words. Servers and clients ask before they begin."""

from __future__ import annotations

import ssl
from pathlib import Path

__all__ = ["no_authorities", "why_no_pair", "why_unreadable"]


def why_unreadable(path: str) -> str:
    """Why a file cannot be read; empty: it can."""
    try:
        Path(path).read_bytes()
    except OSError as error:
        return f"expected a PEM file: {error.strerror}"
    return ""


def why_no_pair(context: ssl.SSLContext, certificate: str, key: str) -> str:
    """Have the context use a certificate and its key, whose files can be read; why that is not possible, or empty."""
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        return f"expected PEM files of a certificate and of its key, which has no password: {_said(error)}"
    return ""


def no_authorities(error: BaseException) -> str:
    """What is wrong with a file of those to trust that `ssl` has refused with this error."""
    return f"expected a PEM file of certificates: {_said(error)}"


def _no_password() -> str:
    # Otherwise OpenSSL asks for it at the terminal, and waits.
    return ""


def _said(error: BaseException) -> str:
    """Without the place in the source of Python."""
    return str(error).partition(" (_ssl.c")[0]
