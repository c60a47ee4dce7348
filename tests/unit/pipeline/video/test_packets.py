from __future__ import annotations

from pipeline.video.packets import Packet, PacketRing, Times, filled_times


def packet(at: float, key: bool = False, nbytes: int = 10) -> Packet[str]:
    return Packet(at, key, nbytes, f"{'K' if key else 'p'}{at:g}")


def filled(ring: PacketRing[str], count: int, group: int = 5) -> PacketRing[str]:
    """One packet a second, each `group`-th a key frame."""
    for second in range(count):
        ring.add(packet(second, second % group == 0))
    return ring


def names(packets: list[Packet[str]]) -> str:
    return " ".join(one.data for one in packets)


def test_a_clip_begins_with_the_key_frame_before_its_time() -> None:
    ring = filled(PacketRing(100, 10_000), 13)
    assert names(ring.since(7)) == "K5 p6 p7 p8 p9 K10 p11 p12"
    assert names(ring.since(10)) == "K10 p11 p12"
    assert names(ring.since(99)) == "K10 p11 p12"


def test_of_a_time_that_is_gone_it_begins_with_what_there_is() -> None:
    assert names(filled(PacketRing(100, 10_000), 7).since(-50)) == "K0 p1 p2 p3 p4 K5 p6"


def test_before_the_first_key_frame_there_is_nothing_to_begin_with() -> None:
    ring: PacketRing[str] = PacketRing(10, 1000)
    ring.add(packet(1))
    ring.add(packet(2))
    assert ring.since(0) == []
    assert (ring.left_out, ring.nbytes) == (2, 0)
    ring.add(packet(3, key=True))
    assert names(ring.since(0)) == "K3"


def test_groups_are_dropped_whole_once_the_seconds_are_covered_without_them() -> None:
    ring = filled(PacketRing(4, 10_000), 9)
    # At 8 the seconds since 4 are kept: K5 does not cover 4.
    assert names(ring.since(0)).startswith("K0")
    ring.add(packet(9))
    assert names(ring.since(0)) == "K5 p6 p7 p8 p9"
    assert ring.nbytes == 50


def test_no_more_bytes_are_kept_than_allowed() -> None:
    ring = filled(PacketRing(1000, 79), 13)
    # With K5 to p12 there would be 80.
    assert (names(ring.since(0)), ring.nbytes) == ("K10 p11 p12", 30)


def test_a_group_that_is_larger_than_the_room_is_left_out_and_counted() -> None:
    ring: PacketRing[str] = PacketRing(1000, 35)
    ring.add(packet(0, key=True))
    for second in range(1, 6):
        ring.add(packet(second))
    assert ring.since(0) == []
    # The fourth does not fit beside the first three; after it nothing can be decoded.
    assert ring.left_out == 6
    ring.add(packet(6, key=True))
    assert names(ring.since(0)) == "K6"


def test_nothing_is_left_after_another_stream_begins() -> None:
    ring = filled(PacketRing(100, 10_000), 7)
    ring.clear()
    ring.add(packet(8))
    assert (ring.since(0), ring.nbytes) == ([], 0)


def test_times_that_are_missing_at_the_beginning_are_reckoned_from_those_behind_them() -> None:
    # As FFmpeg gives the first packets of a camera over RTSP.
    found = [Times(None, None, 36), Times(None, 0, 36), Times(None, 36, 36), Times(0, 72, 36), Times(36, 108, 36)]
    assert [time[:2] for time in filled_times(found)] == [(-108, -36), (-72, 0), (-36, 36), (0, 72), (36, 108)]


def test_times_that_are_there_stay() -> None:
    found = [Times(5, 9, 2), Times(7, 7, 2)]
    assert filled_times(found) == found


def test_decoding_times_rise_also_if_no_packet_says_how_long_it_is() -> None:
    found = filled_times([Times(None, None, 0), Times(None, 10, 0), Times(9, 11, 0)])
    assert [time.decoded for time in found] == [7, 8, 9]


def test_a_clip_of_packets_without_any_time_stays_without() -> None:
    assert filled_times([Times(None, None, 1)]) == [Times(None, None, 1)]
