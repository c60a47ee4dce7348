from __future__ import annotations

from pipeline.scheduler.answers import LONGEST_MESSAGE
from pipeline.scheduler.instructions import letters_of
from pipeline.wire.codec import MAX_FRAME_BYTES, encode
from pipeline.wire.messages import Answer, Answers, SlotRef, Trace
from pipeline.wire.traces import packed
from pipeline.worker.failures import LONGEST_TRACEBACK

GRANTS = [SlotRef(1, 2, 3), SlotRef(1, 4, 5)]


def answer(tag: int, message: str = "", traceback: str = "") -> Answer:
    return Answer(tag, "StageFailed", message, (), packed(Trace(0, 1, 2, 3, 4)) * 64, traceback)


def test_what_a_client_is_told_is_one_message() -> None:
    answers = [answer(tag) for tag in range(100)]
    (message,) = letters_of(7, answers, GRANTS, 3)
    assert message == Answers(8, tuple(answers), tuple(GRANTS), 3)
    (message,) = letters_of(7, [], GRANTS, 3)
    assert message == Answers(8, (), tuple(GRANTS), 3)


def test_very_many_long_answers_are_several_messages_of_which_each_fits_a_frame() -> None:
    # Four bytes a character, the most that UTF-8 has.
    answers = [answer(tag, "\U0001f4a5" * LONGEST_MESSAGE, "\U0001f4a5" * (LONGEST_TRACEBACK + 50)) for tag in range(700)]
    messages = letters_of(7, answers, GRANTS, 3)
    assert [each for message in messages for each in message.answers] == answers
    assert [each for message in messages for each in message.grants] == GRANTS
    assert [message.number for message in messages] == list(range(8, 8 + len(messages)))
    assert max(len(encode(message)) for message in messages) < MAX_FRAME_BYTES
