"""A session as a state machine: whatever happens, each message comes until it is acknowledged."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plantroom.broker import decode
from plantroom.broker.backlog import Stored
from plantroom.broker.deliveries import cost
from plantroom.broker.outgoing import Outgoing
from plantroom.broker.packets import Publish
from plantroom.broker.runs import Origin, Run
from plantroom.broker.session import Session
from plantroom.broker.tree import Grant, Match
from tests.broker.harness import publish

GRANTS = {qos: Grant(qos=qos) for qos in (0, 1, 2)}


def run_of(values: list[int], qos: int, version: int = 4, *, volatile: bool = False) -> Run:
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
        volatile=volatile,
    )


def opened(*, durable: bool = True, window: int = 5, limit_bytes: int = 1 << 20) -> Session:
    session = Session(Origin(2, "r", "r"), durable=durable, limit_bytes=limit_bytes)
    session.attach(Outgoing(4), window)
    return session


def give(session: Session, run: Run, qos: int, log: list[Stored] | None = None) -> None:
    ordinal = session.reserve(run.count) if qos else 0
    if log is not None:
        log.append((run, GRANTS[qos], qos, ordinal))
    session.offer(run, GRANTS[qos], qos, ordinal)


def read_on(session: Session, log: list[Stored], runs_max: int) -> None:
    """What refill does: read the next few runs of the log."""
    start, end = session.backlog.loaded, session.backlog.stored
    found = [s for s in log if start < s[3] + s[0].count <= end][:runs_max]
    end = found[-1][3] + found[-1][0].count if found else end
    session.announce(end)
    session.load(found, end, 0, frozenset())


class Sessions(RuleBasedStateMachine):
    """A client that acknowledges in any order, goes and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.session = opened(limit_bytes=3000)
        self.log: list[Stored] = []
        self.value = 0
        self.open: dict[int, tuple[int, int]] = {}  # packet id -> value, QoS: what the client holds
        self.before: dict[int, tuple[int, int]] = {}  # the same, of former connections
        self.released: set[int] = set()
        self.wanted: list[tuple[int, int]] = []  # value, QoS: not acknowledged
        self.taken: set[int] = set()  # QoS 2 values that the client has taken for good

    def receive(self) -> None:
        if not self.session.ready:
            return
        self.look(b"".join(self.session.pump(0)))
        while self.session.hungry:
            read_on(self.session, self.log, 2)
            self.look(b"".join(self.session.pump(0)))

    def look(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            start, end = decode.remaining(data, position)
            header = data[position]
            if header >> 4 == 6:
                number = int.from_bytes(data[start:end], "big")
                assert number in self.released
                self.open[number] = self.before.pop(number, self.open.get(number, (-1, -1)))
            else:
                self.take(decode.publish(header, data, start, end, 4))
            position = end

    def take(self, message: Publish) -> None:
        value = int(message.payload)
        assert value in [known for known, _ in self.wanted], "acknowledged, and sent again"
        assert value not in self.taken, "QoS 2 twice"
        assert message.packet_id not in self.open, "packet id in use"
        held = self.before.pop(message.packet_id, None)
        assert held is None or held[0] == value, "packet id in use"
        assert held is None or message.dup
        self.open[message.packet_id] = (value, message.qos)

    @rule(count=st.integers(1, 8), qos=st.integers(1, 2))
    def publish(self, count: int, qos: int) -> None:
        values = list(range(self.value, self.value + count))
        self.value += count
        self.wanted += [(value, qos) for value in values]
        give(self.session, run_of(values, qos), qos, self.log)
        self.receive()

    @rule(count=st.integers(1, 3))
    def publish_volatile(self, count: int) -> None:
        """Kept in memory only, and only while there is room."""
        values = list(range(self.value, self.value + count))
        before = self.session.dropped
        self.value += count
        if self.session.ready:
            self.wanted += [(value, 1) for value in values]
        give(self.session, run_of(values, 1, volatile=True), 1)
        if self.session.dropped > before:
            del self.wanted[-count:]
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
    def go(self) -> None:
        self.session.detach()
        self.before |= self.open
        self.open = {}
        assert self.session.unacknowledged == 0
        kept = self.session.pending or self.session.backlog.aside
        assert all(part.run.volatile for part in kept), "memory has what the log has"

    @precondition(lambda self: not self.session.ready)
    @rule()
    def come_back(self) -> None:
        self.session.attach(Outgoing(4), 5)
        self.receive()

    @rule()
    def crash(self) -> None:
        """A new process knows what was stored: cursor, log, QoS 2 states."""
        old, cursor = self.session, self.session.cursor()
        logged = {
            int(message.payload): (qos, ordinal + number)
            for run, _, qos, ordinal in self.log
            for number, message in enumerate(run.messages())
        }
        done = {*old.backlog.finished, *old._acknowledged}
        self.session = opened(limit_bytes=3000)
        self.session.ready = False
        self.session.restore(
            cursor,
            stored=old.backlog.stored,
            released=set(old.backlog.released),
            finished={ordinal for qos, ordinal in logged.values() if qos == 2} & done,
        )
        before = self.before | self.open
        self.before = {n: held for n, held in before.items() if held[0] in logged}
        self.open = {}
        again = [  # QoS 1, acknowledged out of turn: nothing says so but memory
            (value, qos)
            for value, (qos, ordinal) in logged.items()
            if ordinal >= cursor.done and (qos == 1 or (value, qos) in self.wanted)
        ]
        assert set(again) >= {known for known in self.wanted if known[0] in logged}
        self.wanted = again

    @invariant()
    def window_is_respected(self) -> None:
        assert len(self.open) <= 5
        assert self.session.unacknowledged == (len(self.open) if self.session.ready else 0)

    @invariant()
    def cursor_is_behind_everything_that_is_wanted(self) -> None:
        cursor = self.session.cursor()
        assert cursor.done <= cursor.next
        if not self.wanted:
            assert self.session.pending_bytes == 0
            assert not self.session.backlog.behind

    @invariant()
    def memory_is_bounded(self) -> None:
        assert 0 <= self.session.pending_bytes <= 3000 + 2 * 8 * 200
        counted = sum(
            cost(part.run, part.count)
            for part in (*self.session.pending, *self.session.backlog.aside)
        )
        assert counted == self.session.pending_bytes
        flying = sum(
            cost(part.run, 1)
            for part in self.session.in_flight
            for ordinal in range(part.ordinal, part.ordinal + part.count)
            if ordinal not in self.session._acknowledged
        )
        assert flying == self.session.flight_bytes <= 3000 + 8 * 200


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


def test_queue_of_a_session_without_a_log_is_bounded_by_bytes() -> None:
    session = opened(limit_bytes=3000, window=1, durable=False)
    for value in range(100):
        give(session, run_of([value], 1), 1)
    assert session.dropped > 0
    assert session.pending_bytes <= 3000


def test_durable_session_keeps_nothing_in_memory_while_it_is_away() -> None:
    session = opened()
    session.detach()
    for value in range(1000):
        give(session, run_of([value], 1), 1)
    assert not session.pending
    assert session.dropped == session.pending_bytes == 0
    assert session.backlog.behind
    assert session.cursor().done == 0
