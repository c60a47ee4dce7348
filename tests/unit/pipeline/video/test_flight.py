"""How many frames are inside, in which order they go, and which go again."""

from __future__ import annotations

from pipeline.video.flight import Flight
from pipeline.video.frame import Frame
from pipeline.video.scene import Drawn, Scene
from pipeline.wire.records import Origin


def frame(number: int) -> Frame:
    return Frame(number, Drawn(Scene(), number), 100 + number, float(number))


def send(flight: Flight[int], each: Frame) -> Origin:
    assert flight.has_room
    origin = flight.origin(each)
    flight.sent(each, each.number, origin)
    return origin


def test_no_camera_has_more_frames_inside_than_it_may_and_they_are_numbered_in_one_stream() -> None:
    flight: Flight[int] = Flight(2, never=False)
    assert [send(flight, frame(number)) for number in (1, 2)] == [Origin(1, 1, 101), Origin(1, 2, 102)]
    assert not flight.has_room
    assert flight.answered().frame.number == 1
    assert flight.has_room
    assert send(flight, frame(3)) == Origin(1, 3, 103)


def test_a_lost_frame_is_given_up_by_a_live_camera_and_the_next_goes_in_another_stream_once_the_old_one_is_empty() -> None:
    flight: Flight[int] = Flight(3, never=False)
    for number in (1, 2):
        send(flight, frame(number))
    lost = flight.lost()
    assert lost is not None
    assert lost.frame.number == 1
    assert not flight.has_room
    assert flight.renew() is None
    assert flight.lost() is not None
    assert flight.renew() == 1
    assert send(flight, frame(3)) == Origin(2, 1, 103)


def test_of_a_file_lost_frames_are_sent_again_in_their_order_before_all_others() -> None:
    flight: Flight[int] = Flight(3, never=True)
    frames = [frame(number) for number in (1, 2, 3)]
    for each in frames:
        send(flight, each)
    flight.answered()
    assert (flight.lost(), flight.has_room, flight.lost()) == (None, False, None)
    assert flight.renew() == 1
    again = []
    while (following := flight.next_again) is not None:
        again.append((following.number, send(flight, following).sequence))
    assert again == [(2, 1), (3, 2)]
    assert len(flight) == 2


def test_a_frame_that_is_lost_each_time_is_given_up_in_the_end() -> None:
    flight: Flight[int] = Flight(1, never=True)
    one = frame(1)
    tries = 0
    while True:
        send(flight, one)
        tries += 1
        if flight.lost() is not None:
            break
        flight.renew()
    assert tries == 5
    assert flight.next_again is None
