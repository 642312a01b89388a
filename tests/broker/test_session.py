"""A session as a state machine: whatever happens, each message comes until it is acknowledged."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plantroom.broker import decode
from plantroom.broker.packets import Publish
from plantroom.broker.runs import Origin, Run, Segment
from plantroom.broker.session import Session
from plantroom.broker.tree import Grant, Match
from tests.broker.harness import publish

GRANTS = {qos: Grant(qos=qos) for qos in (0, 1, 2)}


def run_of(values: list[int], qos: int, version: int = 4) -> Run:
    data, offsets = b"", []
    for value in values:
        offsets.append(len(data) + 2 + 2 + 1)
        data += publish("t", b"%06d" % value, qos=max(qos, 1), version=version)
    return Run(
        Origin(1, "w", "w"),
        data,
        version=version,
        match=Match(),
        at_us=0,
        qos=qos,
        count=len(values),
        offsets=offsets,
        copyable=qos == 1,
    )


def opened(*, durable: bool = True, window: int = 5, limit_bytes: int = 1 << 20) -> Session:
    session = Session(Origin(2, "r", "r"), durable=durable, limit_bytes=limit_bytes)
    session.attach(version=4, window=window, packet_bytes_max=0)
    return session


def give(session: Session, run: Run, qos: int) -> None:
    session.offer(run, GRANTS[qos], qos, session.reserve(run.count) if qos else 0)


class Sessions(RuleBasedStateMachine):
    """A client that acknowledges in any order, goes and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.session = opened()
        self.value = 0
        self.open: dict[int, tuple[int, int]] = {}  # packet id -> value, QoS: what the client holds
        self.released: set[int] = set()
        self.wanted: list[tuple[int, int]] = []  # value, QoS: not acknowledged
        self.taken: set[int] = set()  # QoS 2 values that the client has taken for good

    def receive(self) -> None:
        data = b"".join(self.session.pump(0))
        position = 0
        while position < len(data):
            start, end = decode.remaining(data, position)
            header = data[position]
            if header >> 4 == 6:
                number = int.from_bytes(data[start:end], "big")
                assert number in self.released
            else:
                self.take(decode.publish(header, data, start, end, 4))
            position = end

    def take(self, message: Publish) -> None:
        value = int(message.payload)
        assert value in [known for known, _ in self.wanted], "acknowledged, and sent again"
        assert value not in self.taken, "QoS 2 twice"
        held = self.open.get(message.packet_id)
        assert held is None or held[0] == value, "packet id in use"
        assert held is None or message.dup
        self.open[message.packet_id] = (value, message.qos)

    @rule(count=st.integers(1, 8), qos=st.integers(1, 2))
    def publish(self, count: int, qos: int) -> None:
        values = list(range(self.value, self.value + count))
        self.value += count
        self.wanted += [(value, qos) for value in values]
        give(self.session, run_of(values, qos), qos)
        self.receive()

    @precondition(lambda self: self.open and self.session.ready)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        value, qos = self.open[number]
        if qos == 1:
            assert self.session.acknowledge(number)
        elif number not in self.released:
            assert self.session.receive(number, 0) is not None
            self.released.add(number)
            self.taken.add(value)
            return
        else:
            assert self.session.complete(number) is not None
            self.released.discard(number)
        del self.open[number]
        self.wanted.remove((value, qos))
        self.receive()

    @rule(gap=st.integers(1, 3))
    def skip_ordinals(self, gap: int) -> None:
        """A group that failed, or volatile messages: ordinals that are never offered."""
        self.session.reserve(gap)

    @rule()
    def come_back(self) -> None:
        self.session.detach()
        assert self.session.unacknowledged == 0
        self.session.attach(version=4, window=5, packet_bytes_max=0)
        self.receive()

    @invariant()
    def window_is_respected(self) -> None:
        assert self.session.unacknowledged == len(self.open) <= 5

    @invariant()
    def cursor_is_behind_everything_that_is_wanted(self) -> None:
        cursor = self.session.cursor()
        assert cursor.done <= cursor.next
        waiting = sum(d.count for d in self.session.in_flight) + sum(
            d.count for d in self.session.pending
        )
        assert cursor.next - cursor.done >= waiting
        if not self.wanted:
            assert self.session.pending_bytes == 0


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=40, stateful_step_count=40)


def test_packet_ids_go_round_without_zero_and_without_collision() -> None:
    session = opened(window=1000)
    seen = []
    for start in range(0, 140_000, 700):
        give(session, run_of(list(range(start, start + 700)), 1), 1)
        data = b"".join(session.pump(0))
        numbers = []
        position = 0
        while position < len(data):
            begin, end = decode.remaining(data, position)
            numbers.append(decode.publish(data[position], data, begin, end, 4).packet_id)
            position = end
        acks = b"".join(b"@\2" + number.to_bytes(2, "big") for number in numbers)
        position = 0
        while position < len(acks):
            after = session.acknowledge_run(acks, position)
            assert after > position
            position = after
        seen += numbers
    assert 0 not in seen
    assert seen[:65_535] == list(range(1, 65_536))
    assert seen[65_535] == 1


def test_queue_is_bounded_by_bytes() -> None:
    session = opened(limit_bytes=1000, window=1)
    for value in range(100):
        give(session, run_of([value], 1), 1)
    assert session.dropped > 0
    assert session.pending_bytes <= 1000


def test_discard_gives_its_segments_back() -> None:
    session = opened(window=1)
    run = run_of([1, 2, 3], 1)
    run.segment = Segment(1, tapped=False)
    give(session, run, 1)
    session.pump(0)
    assert run.segment.references > 0
    session.discard()
    assert run.segment.references == 0
