"""Checked: whether a server can be asked with the arguments that a caller has given, before anything is sent.

What was given for TLS or a token is used, or refused: it is never left out without a word.
"""

from __future__ import annotations

import ssl

from pipeline.client.limits import check_count
from pipeline.errors import InvalidRequest
from pipeline.kserve.token import why_no_token
from pipeline.remote.address import Address
from pipeline.remote.link import Options
from pipeline.tls import no_authorities, why_no_pair, why_unreadable

__all__ = ["check_options", "context_of"]

_FILES = ("ca", "certificate", "key")


def check_options(address: Address, options: Options) -> None:
    """
    Raises:
        InvalidRequest: an option is not possible, or a file of TLS is not what it should be.
    """
    check_count("connections", options.connections)
    if options.token != "" and (why := why_no_token(options.token)):
        raise InvalidRequest(f"token: {why}")
    given = [name for name in _FILES if getattr(options, name)]
    if given and not address.has_tls:
        secure = "grpcs" if address.is_grpc else "https"
        raise InvalidRequest(
            f"{', '.join(given)}: {address} is without TLS, so nothing of it would be used; expected {secure}://HOST:PORT"
        )
    if bool(options.certificate) != bool(options.key):
        there, missing = ("certificate", "key") if options.certificate else ("key", "certificate")
        raise InvalidRequest(f"{there} is given and {missing} is not: expected both, PEM files of this client")
    if given:
        context_of(options)


def context_of(options: Options) -> ssl.SSLContext:
    """What OpenSSL makes of the files.

    Raises:
        InvalidRequest: one cannot be read, or is not what it should be.
    """
    for name in _FILES:
        if (path := getattr(options, name)) and (why := why_unreadable(path)):
            raise InvalidRequest(f"{name}: {path}: {why}")
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"ca: {options.ca}: {no_authorities(error)}") from None
    if options.certificate and (why := why_no_pair(context, options.certificate, options.key)):
        raise InvalidRequest(f"{options.certificate}, {options.key}: {why}")
    return context
