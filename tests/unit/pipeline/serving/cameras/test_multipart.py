"""Parts of an answer that does not end, as the standard library's own parser reads them."""

from __future__ import annotations

import email

from pipeline.serving.cameras.multipart import MEDIA_TYPE, OPENING, part


def test_parts_are_read_by_another_parser() -> None:
    pictures = [b"\xff\xd8one\r\n--frame\xff", b""]
    body = OPENING + b"".join(part("image/jpeg", f"/cameras/m/{number}.jpg", each) for number, each in enumerate(pictures))
    message = email.message_from_bytes(b"Content-Type: " + MEDIA_TYPE.encode() + b"\r\n\r\n" + body[: -len(OPENING)] + b"--frame--")
    found = message.get_payload()
    assert isinstance(found, list)
    assert found[0]["Content-Location"] == "/cameras/m/0.jpg"


def test_each_part_says_its_length_and_is_closed_at_once() -> None:
    made = part("image/jpeg", "/x.jpg", b"abc")
    head, rest = made.split(b"\r\n\r\n", 1)
    assert b"Content-Length: 3" in head.split(b"\r\n")
    assert rest == b"abc\r\n--frame\r\n"
