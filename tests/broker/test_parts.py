from plantroom.broker.parts import Parts, Room
from plantroom.broker.turns import DISK, ROOM


class Large:
    """Has a packet that does not come at once."""

    def __init__(self) -> None:
        self.turn = 0
        self.resumed = 0

    def resume(self, why: int = DISK) -> None:
        assert why == ROOM
        self.resumed += 1


def test_who_needs_more_than_is_left_waits_and_nobody_overtakes() -> None:
    room = Room(100)
    first, second, third, fourth = Large(), Large(), Large(), Large()
    assert room.want(first, 60)
    assert not room.want(second, 60)
    assert not room.want(third, 10)  # it would fit, but the second was there before
    assert room.taken_bytes == 60
    room.want(first, 0)
    assert (second.resumed, third.resumed, room.taken_bytes) == (1, 1, 70)
    assert room.want(fourth, 30)
    assert fourth.resumed == 0


def test_packet_larger_than_all_there_is_goes_alone() -> None:
    room = Room(100)
    small, huge = Large(), Large()
    assert room.want(small, 10)
    assert not room.want(huge, 1000)
    room.want(small, 0)
    assert huge.resumed == 1
    assert not room.want(small, 10)
    room.want(huge, 0)
    assert (small.resumed, room.taken_bytes) == (1, 10)


def test_who_leaves_while_it_waits_holds_up_nobody() -> None:
    room = Room(100)
    first, gone, third = Large(), Large(), Large()
    assert room.want(first, 60)
    assert not room.want(gone, 60)
    assert not room.want(third, 40)
    room.want(gone, 0)
    assert (gone.resumed, third.resumed, room.taken_bytes) == (0, 1, 100)


def test_parts_come_back_in_their_order_and_only_large_packets_take_room() -> None:
    room, outlet, parts = Room(100_000), Large(), Parts()
    parts.add(b"bc")
    parts.put_back(b"a")
    assert (parts.have, parts.take(), parts.have) == (3, b"abc", 0)
    for need, taken in ((16_384, 0), (50_000, 50_000), (20_000, 20_000)):
        parts.add(b"a")
        parts.need = need
        assert parts.fit(outlet, room)
        assert room.taken_bytes == taken
    parts.take()
    assert parts.fit(outlet, room)  # whole
    assert room.taken_bytes == 0
    parts.add(b"a")
    parts.need = 20_000
    assert parts.fit(outlet, room)
    parts.drop(outlet, room)
    assert (parts.have, room.taken_bytes) == (0, 0)
