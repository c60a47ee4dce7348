from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from pipeline.errors import OtherProtocol, WireError
from pipeline.wire import messages, versions
from pipeline.wire.codec import MAX_FRAME_BYTES, decode, encode
from pipeline.wire.columns import Columns, HopColumn, PassedColumns, TensorColumn
from pipeline.wire.messages import (
    MESSAGES,
    PROTOCOL,
    Bye,
    Gone,
    Hello,
    Loan,
    Message,
    Orders,
    Refused,
    SlotRef,
    Submission,
    Submit,
)
from pipeline.wire.traces import TRACE_BYTES

_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    bool: st.booleans(),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=50),
    float: st.floats(allow_nan=False),
    type(None): st.none(),
}


def columns_of(rows: int) -> Columns:
    """Columns are of one length, or they are none."""
    return Columns(
        bytes(range(8 * rows)), bytes(4 * rows), ("x",) * rows, (HopColumn(0, 1, 0, b"", b""),),
        (TensorColumn(0, 1, 2, "uint8", (3,), bytes(4 * rows), bytes(8 * rows)),), (bytes(TRACE_BYTES * rows),),
        bytes(8 * rows), bytes(8 * rows), ("y",) * rows,
    )  # fmt: skip


def passed_of(rows: int) -> PassedColumns:
    """As `columns_of`."""
    return PassedColumns(bytes(8 * rows), bytes(4 * rows), (bytes(TRACE_BYTES * rows),))


#: Records whose fields depend on each other, of so many rows.
_OF_ROWS: dict[Any, Callable[[int], Any]] = {Columns: columns_of, PassedColumns: passed_of}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Anything that `annotation` allows."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if annotation in _OF_ROWS:
        return st.integers(1, 3).map(_OF_ROWS[annotation])
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return st.lists(values_of(typing.get_args(annotation)[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(*map(values_of, typing.get_args(annotation)), max_size=3)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values_of(member) for member in typing.get_args(annotation)])
    hints = typing.get_type_hints(annotation)
    return st.builds(annotation, **{name: values_of(hint) for name, hint in hints.items()})


ANY_MESSAGE = st.one_of([values_of(cls) for cls in MESSAGES.values()])


def least(annotation: Any) -> Any:
    """One valid value, with something in every sequence."""
    if annotation in _SCALARS:
        return annotation()
    if annotation in _OF_ROWS:
        return _OF_ROWS[annotation](1)
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return (least(typing.get_args(annotation)[0]),)
    if origin is dict:
        return {least(key): least(value) for key, value in [typing.get_args(annotation)]}
    if origin in (types.UnionType, typing.Union):
        return least(typing.get_args(annotation)[0])
    return annotation(*[least(hint) for hint in typing.get_type_hints(annotation).values()])


def same(one: Any, other: Any) -> bool:
    """Equal in value and in every type: 1 == True and a record == a tuple would hide a mistake."""
    if type(one) is not type(other):
        return False
    if isinstance(one, msgspec.Struct):
        one, other = astuple(one), astuple(other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


#: A hello and a refusal have the form that every version reads.
FROZEN = {Hello: 1, Refused: 11}


def plain(value: Any) -> Any:
    """What MessagePack packs of `value`: [tag, field, ...] of a message, the fields of a record."""
    if isinstance(value, msgspec.Struct):
        fields = [plain(field) for field in astuple(value)]
        return [*head(type(value)), *fields] if isinstance(value, Message) else fields
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def head(cls: type[Any]) -> list[int]:
    """What stands before the fields of a message."""
    (kind,) = [kind for kind, known in MESSAGES.items() if known is cls]
    return [PROTOCOL, kind] if cls in FROZEN else [PROTOCOL * 256 + kind]


@given(ANY_MESSAGE)
@settings(max_examples=120)
def test_msgpack_reads_what_is_encoded_and_what_it_packs_is_decoded(message: Message) -> None:
    assert msgpack.unpackb(encode(message)) == plain(message)
    assert same(decode(msgpack.packb(plain(message))), message)


@given(ANY_MESSAGE)
@settings(max_examples=120)
def test_what_is_encoded_is_decoded_with_every_type(message: Message) -> None:
    assert same(decode(encode(message)), message)


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_every_kind_has_a_form_on_the_wire(cls: type[Any]) -> None:
    message = least(cls)
    frame = encode(message)
    assert msgpack.unpackb(frame) == plain(message)
    assert same(decode(frame), message)
    assert same(decode(memoryview(frame)), message)


def test_the_table_names_every_message_and_the_picture_shows_where_it_goes() -> None:
    assert list(MESSAGES.values()) == Message.__subclasses__()
    assert {cls.__struct_config__.tag for cls in MESSAGES.values()} == {PROTOCOL * 256 + kind for kind in MESSAGES}
    picture = str(messages.__doc__)
    assert [cls.__name__ for cls in MESSAGES.values() if cls.__name__ not in picture] == []


# -- what is refused --------------------------------------------------------------------------------


def refusal(body: Any) -> str:
    with pytest.raises(WireError) as refused:
        decode(msgpack.packb(body))
    return str(refused.value)


def body_of(message: Message) -> list[Any]:
    body: list[Any] = msgpack.unpackb(encode(message))
    return body


@pytest.mark.parametrize("kind", [0, 99, -1, 2**64 - 1, "1", 1.0, True, None, [1]])
def test_an_unknown_kind_is_refused(kind: object) -> None:
    assert "unknown kind of message" in refusal([PROTOCOL, kind, 1, "name"])


@pytest.mark.parametrize("kind", [0, 1, 11, 99, 255])
def test_an_unknown_tag_is_refused(kind: int) -> None:
    assert refusal([PROTOCOL * 256 + kind, 1, "name"]) == f"unknown kind of message {kind}"


@pytest.mark.parametrize("protocol", [0, PROTOCOL + 1, str(PROTOCOL), float(PROTOCOL), True, None])
def test_another_protocol_is_refused_and_says_what_to_do(protocol: object) -> None:
    assert "start both ends from one version" in refusal([protocol, *body_of(Hello(1, "a"))[1:]])


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL + 1, 2**40])
def test_any_message_of_another_protocol_is_refused_and_says_what_to_do(protocol: int) -> None:
    tag, *fields = body_of(Bye(1, ()))
    expected = rf"protocol {protocol}; this process speaks {PROTOCOL}: start both ends from one version"
    with pytest.raises(WireError, match=expected):
        decode(msgpack.packb([protocol * 256 + tag % 256, *fields]))


@pytest.mark.parametrize("body", [{}, [], [PROTOCOL], [255], 1, "text", None, {"kind": 1}, b"\0" * 9])
def test_what_is_no_message_is_refused(body: object) -> None:
    assert "expected an array [tag, field, ...] or [protocol, kind, field, ...]" in refusal(body)


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_a_missing_or_additional_field_is_refused(cls: type[Any]) -> None:
    body = body_of(least(cls))
    fields = len(body) - len(head(cls))
    assert refusal([*body, 0]) == f"{cls.__name__}: expected array of length {fields}, found {fields + 1}"
    if fields and not cls.__struct_defaults__:
        assert refusal(body[:-1]) == f"{cls.__name__}: expected array of length {fields}, found {fields - 1}"


def test_only_the_last_fields_that_have_defaults_may_be_missing_and_are_the_defaults_then() -> None:
    body = body_of(Submit(1, 2, (), (), ()))
    assert same(decode(msgpack.packb(body[:-1])), Submit(1, 2, (), (), ()))
    assert refusal(body[:-2]) == "Submit: expected array of length 5, found 3"
    submission = Submission(1, SlotRef(1, 2, 3), (), 0, 0, "name")
    body = body_of(Submit(1, 2, (submission,), (), ()))
    del body[3][0][-5:]
    assert same(decode(msgpack.packb(body)), Submit(1, 2, (submission,), (), ()))
    del body[3][0][-1:]
    assert refusal(body) == "Submit.submissions[0]: expected array of at least length 6, found 5"


def test_a_record_with_more_fields_than_it_has_is_refused() -> None:
    body = body_of(least(Orders))
    body[2][0].append(0)
    assert refusal(body) == "Orders.orders[0]: expected array of at most length 14, found 15"
    body = body_of(least(Submit))
    body[4][0].append(0)
    assert refusal(body) == "Submit.releases[0]: expected array of length 3, found 4"


def _paths(annotation: Any, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Any]]:
    """Where in the body of `least(annotation)` each field of each record lies, and its annotation."""
    found = []
    for index, hint in enumerate(typing.get_type_hints(annotation).values()):
        here = (*path, index)
        found.append((here, hint))
        if typing.get_origin(hint) is tuple:
            item = typing.get_args(hint)[0]
            found.append(((*here, 0), item))
            if typing.get_origin(item) in (types.UnionType, typing.Union):
                item = typing.get_args(item)[0]
            if is_record(item):
                found += _paths(item, (*here, 0))
        elif is_record(hint):
            found += _paths(hint, here)
    return found


def is_record(hint: Any) -> bool:
    return hasattr(hint, "_fields") or hasattr(hint, "__struct_fields__")


_WRONG: tuple[Any, ...] = (None, True, 0, 1.0, "text", b"bytes", [], {}, msgpack.ExtType(1, b"x"), msgpack.Timestamp(1))


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_a_field_of_another_type_is_refused(cls: type[Any]) -> None:
    cases = [
        (path, wrong) for path, hint in _paths(cls) for wrong in _WRONG if type(wrong) not in _python_types(hint)
    ]
    for path, wrong in cases:
        body = body_of(least(cls))
        place = body
        *middle, last = len(head(cls)) + path[0], *path[1:]
        for index in middle:
            place = place[index]
        place[last] = wrong
        assert refusal(body), (path, wrong)


def _python_types(hint: Any) -> set[type]:
    if hint in _SCALARS:
        # msgspec takes a text for bytes, too: those that it stands for in base64.
        return {float: {float, int}, bytes: {bytes, str}}.get(hint, {hint})
    if typing.get_origin(hint) is dict:
        return {dict}
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return {t for member in typing.get_args(hint) for t in _python_types(member)}
    # An empty array is a sequence without items; a record has fields.
    return {list} if typing.get_origin(hint) is tuple else set()


def test_the_refusal_names_the_record_and_the_field() -> None:
    assert refusal([PROTOCOL, 1, True, "name"]) == "Hello.client: expected int, found bool"
    order = body_of(least(Orders))
    order[2][0][4][0] = "x"
    assert refusal(order) == "Orders.orders[0].hop.stage: expected int, found str"


# -- other versions ---------------------------------------------------------------------------------

HELLO_OF_4 = b"\x94\x04\x01\xcd\x04\xd2\xa6client"
HELLO_OF_5 = b"\x94\x05\x01\xcd\x04\xd2\xa6client"


@pytest.mark.parametrize(("protocol", "frame"), [(4, HELLO_OF_4), (5, HELLO_OF_5)])
def test_a_hello_of_an_old_version_says_who_sent_it_and_of_which_version_it_is(protocol: int, frame: bytes) -> None:
    with pytest.raises(OtherProtocol) as refused:
        decode(frame)
    assert (refused.value.protocol, refused.value.client) == (protocol, 1234)


def test_a_hello_of_a_later_version_is_read_whatever_it_has_besides() -> None:
    with pytest.raises(OtherProtocol) as refused:
        decode(msgpack.packb([PROTOCOL + 1, 1, 1234, "client", {"more": []}]))
    assert (refused.value.protocol, refused.value.client, refused.value.asks_only) == (PROTOCOL + 1, 1234, False)


@pytest.mark.parametrize("more", [[], [7], ["text", None]])
def test_a_refusal_of_another_version_is_read_whatever_it_has_besides(more: list[Any]) -> None:
    frame = msgpack.packb([PROTOCOL + 1, 11, PROTOCOL + 1, "too old", *more])
    assert decode(frame) == Refused(PROTOCOL + 1, "too old", 0)


def test_the_form_of_a_hello_and_of_a_refusal_is_fixed_for_ever() -> None:
    assert encode(Hello(1234, "client")) == bytes([0x94, PROTOCOL]) + HELLO_OF_5[2:]
    assert msgpack.unpackb(encode(Refused(PROTOCOL, "no", 0)))[:4] == [PROTOCOL, 11, PROTOCOL, "no"]


(LOAN,), (ORDERS,) = head(Loan), head(Orders)


def test_what_a_client_has_sent_and_cannot_be_read_still_names_the_client() -> None:
    for body, client in (([LOAN, 1234, "x", 1, True], 1234), ([LOAN, "x", 1, 1, True], None), ([ORDERS, 7], None)):
        with pytest.raises(WireError) as refused:
            decode(msgpack.packb(body))
        assert refused.value.client == client


@pytest.mark.parametrize("protocol", versions.OLD)
def test_old_versions_are_spoken_to_in_their_own_form(protocol: int) -> None:
    frozen = {4: HELLO_OF_4, 5: HELLO_OF_5}
    read = msgpack.unpackb(frozen[protocol])
    frame = encode(versions.OldHello(protocol, 1234, "client"))
    assert msgpack.unpackb(frame) == [*read[:3], "client (also of a later protocol)"]
    with pytest.raises(OtherProtocol) as asked:
        decode(frame)
    assert (asked.value.protocol, asked.value.client, asked.value.asks_only) == (protocol, 1234, True)
    kinds = msgpack.unpackb(encode(versions.OldWelcome(protocol, "why")))
    # [protocol, 2, epoch, plan, pools]
    assert kinds[:3] == [protocol, 2, 0]
    assert "why" in kinds[3]
    assert kinds[4] == []


def test_a_frame_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(WireError, match=rf"frame of {MAX_FRAME_BYTES + 1} bytes; expected at most"):
        decode(bytes(MAX_FRAME_BYTES + 1))


def test_a_frame_that_announces_more_than_it_has_is_refused() -> None:
    for head in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01"):
        with pytest.raises(WireError):
            decode(head)


@pytest.mark.parametrize("depth", [10, 200, 500, 900, 1000, 1023, 1024, 5000, 1_000_000])
@pytest.mark.parametrize("head", [b"", b"\x92", b"\x92\x06", b"\x93\x06\x01", b"\x93\xcd\x06\x06\x01"], ids=["bare", "first", "second", "frozen", "field"])
def test_deep_nesting_is_refused(head: bytes, depth: int) -> None:
    with pytest.raises(WireError):
        decode(head + b"\x91" * depth + b"\xc0")


def test_a_huge_value_does_not_make_a_huge_message() -> None:
    assert len(refusal([PROTOCOL, 1, "x" * 1_000_000, "name"])) < 300
    assert len(refusal([PROTOCOL, [0] * 100_000])) < 300
    assert len(refusal([PROTOCOL, 1, {str(n): n for n in range(10_000)}, ""])) < 300


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_an_int_beyond_64_bits_cannot_be_sent(number: int) -> None:
    with pytest.raises(OverflowError):
        encode(Bye(number, ()))


def test_text_with_bytes_of_no_text_is_sent_readably_and_the_next_message_is_whole() -> None:
    assert decode(encode(Hello(1, "bad \udcff name"))) == Hello(1, "bad \\udcff name")
    assert decode(encode(Hello(2, "good"))) == Hello(2, "good")
    assert decode(encode(Gone(1, "bad \udcff name"))) == Gone(1, "bad \\udcff name")


def test_text_that_is_not_utf_8_is_refused() -> None:
    for message in (Hello(1, "abc"), Gone(1, "abc")):
        with pytest.raises(WireError, match=r"UnicodeDecodeError|UTF-8"):
            decode(encode(message).replace(b"abc", b"a\xffc"))


def decoded_or_refused(frame: bytes) -> None:
    try:
        message = decode(frame)
    except WireError:
        return
    assert type(message) in MESSAGES.values()
    assert same(decode(encode(message)), message)


@given(st.binary(max_size=200))
@settings(max_examples=120)
def test_random_bytes_are_refused_and_nothing_else_happens(frame: bytes) -> None:
    decoded_or_refused(frame)


@given(st.data(), ANY_MESSAGE)
@settings(max_examples=160)
def test_a_damaged_frame_is_a_message_or_refused_and_nothing_else_happens(data: st.DataObject, message: Message) -> None:
    frame = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frame) - 1))
        what = data.draw(st.sampled_from(["flip", "cut", "insert", "delete"]))
        if what == "flip":
            frame[at] ^= data.draw(st.integers(1, 255))
        elif what == "cut" and at:
            del frame[at:]
        elif what == "insert":
            frame[at:at] = data.draw(st.binary(max_size=5))
        elif len(frame) > 1:
            del frame[at]
    decoded_or_refused(bytes(frame))


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(sorted(MESSAGES)), st.lists(_JUNK, max_size=6))
@settings(max_examples=160)
def test_any_document_of_a_known_kind_is_a_message_or_refused(kind: int, fields: list[Any]) -> None:
    decoded_or_refused(msgpack.packb([*head(MESSAGES[kind]), *fields]))
