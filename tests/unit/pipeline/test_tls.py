"""What is wrong with a PEM file is told in words, without the place in Python's source."""

from __future__ import annotations

import ssl
from pathlib import Path

from pipeline.tls import no_authorities, why_no_pair, why_unreadable


def test_a_file_that_is_not_there_or_is_a_folder_is_told(tmp_path: Path) -> None:
    assert why_unreadable(str(tmp_path / "none")) == "expected a PEM file: No such file or directory"
    assert why_unreadable(str(tmp_path)) == "expected a PEM file: Is a directory"
    (tmp_path / "a").write_bytes(b"")
    assert why_unreadable(str(tmp_path / "a")) == ""


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no PEM")
    why = why_no_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), str(tmp_path / "a"), str(tmp_path / "a"))
    assert why.startswith("expected PEM files of a certificate and of its key, which has no password: ")
    assert "_ssl.c" not in why


def test_what_the_library_has_refused_is_told_without_its_place() -> None:
    assert no_authorities(OSError("no certificate found (_ssl.c:4149)")) == (
        "expected a PEM file of certificates: no certificate found"
    )
