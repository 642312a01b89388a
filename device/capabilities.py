"""What a sensor can be asked over MQTT: `read_sensors`, `sync_buffered`, `resend`, `renew_epoch`.

The last two belong to the delivery: with them its gateway asks for what is missing further up. Who
asks stands in the topic, where the gateway's broker has checked it, and the answer goes to that
caller's reply topic and nowhere else. A call that is asked again with the same idempotency key is
answered again, not done again; one whose time has passed is not done at all.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from plantroom.wire import envelope, shape, topics
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.errors import EnvelopeError, PlantroomError, TopicError
from plantroom.wire.link import Message
from plantroom.wire.reading import KEY_MAX, Reading

CALL_TOPIC = "call/{target}/{capability}/{caller}"
REPLY_TOPIC = "reply/{caller}/{id}"
RANGES_MAX = 64  # of one call
READINGS_MAX = 200  # of one answer; what is behind them is counted

Capability = Callable[[Any], Any]
Permit = Callable[[str, str], str]  # topic and caller to why not; empty: it may


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    call: Call
    topic: str
    capability: str
    caller: str
    received_s: float


class Calls:
    """Calls in the order in which they came; one thread receives and answers them."""

    def __init__(
        self,
        offered: Mapping[str, Capability],
        *,
        site: str,
        queue_max: int,
        keys_max: int,
        permit: Permit = lambda _topic, _caller: "",
    ) -> None:
        self._offered = dict(offered)
        self._permit = permit
        self._site = site
        self._queue_max = queue_max
        self._keys_max = keys_max
        self._queue: deque[_Asked] = deque()
        self._refusals: deque[tuple[str, str, str]] = deque(maxlen=queue_max)
        self._done: OrderedDict[tuple[str, str, str], Reply] = OrderedDict()
        self.bad_total = 0

    def receive(self, topic: str, payload: bytes, now_s: float) -> None:
        """Take a call in; one that is not a call of ours is counted."""
        try:
            parsed = topics.parse(topic)
            if parsed.pattern != CALL_TOPIC or len(payload) > envelope.CALL_BYTES_MAX:
                raise EnvelopeError("not a call")
            _, capability, caller = parsed.names
            call: Call = envelope.decode(payload, Call)
            if call.reply_to != topics.build(REPLY_TOPIC, parsed.site, caller, call.id):
                raise EnvelopeError("a reply goes to the caller's own topic")
        except (EnvelopeError, TopicError):
            self.bad_total += 1
            return
        if len(self._queue) >= self._queue_max:
            self._refusals.append((call.reply_to, call.id, "busy: ask again later"))
            return
        self._queue.append(
            _Asked(call=call, topic=topic, capability=capability, caller=caller, received_s=now_s)
        )

    def answers(self, clock_s: Callable[[], float]) -> list[Message]:
        """Do what was asked, and return what is to be published."""
        answers = []
        while self._refusals:
            topic, name, text = self._refusals.popleft()
            answers.append(_message(topic, Reply(id=name, error=text)))
        while self._queue:
            asked = self._queue.popleft()
            if clock_s() - asked.received_s >= asked.call.timeout_s:
                continue  # no one waits for it any more, and doing it late would surprise
            answers.append(_message(asked.call.reply_to, self._answer(asked)))
        return answers

    def _answer(self, asked: _Asked) -> Reply:
        call = asked.call
        refusal = self._permit(asked.topic, asked.caller)
        if refusal:
            return Reply(id=call.id, error=f"policy does not allow this call: {refusal}")
        key = (asked.caller, asked.capability, call.idempotency_key)
        if call.idempotency_key and key in self._done:
            earlier = self._done[key]
            return Reply(id=call.id, data=earlier.data, error=earlier.error)
        reply = self._do(asked)
        if call.idempotency_key and reply.error is None:
            self._done[key] = reply
            if len(self._done) > self._keys_max:
                self._done.popitem(last=False)
        return reply

    def _do(self, asked: _Asked) -> Reply:
        capability = self._offered.get(asked.capability)
        if capability is None:
            known = ", ".join(sorted(self._offered)) or "nothing"
            text = f"no capability {asked.capability!r}; this device offers {known}"
            return Reply(id=asked.call.id, error=text)
        try:
            return Reply(id=asked.call.id, data=capability(asked.call.data))
        except PlantroomError as error:
            return Reply(id=asked.call.id, error=str(error))


def read_sensors(read_now: Callable[[], Reading]) -> Capability:
    """Make the capability that takes a fresh reading."""
    return lambda _data: {"reading": reading_table(read_now())}


def sync_buffered(
    waiting: Callable[[int], tuple[Reading, ...]],
    count: Callable[[], int],
    hurry: Callable[[], None],
) -> Capability:
    """Make the capability that sends at once what is still in the outbox."""

    def capability(_data: Any) -> Any:
        total, readings = count(), waiting(READINGS_MAX)
        hurry()
        return {
            "count": total,
            "readings": [reading_table(reading) for reading in readings],
            "complete": total <= len(readings),
        }

    return capability


def resend(send_again: Callable[[int, list[tuple[int, int]]], dict[str, int]]) -> Capability:
    """Make the capability that sends ranges of an epoch again, or says that they are gone."""

    def capability(data: Any) -> Any:
        asked = _resend_from(data)
        return send_again(asked.epoch, [(first, last) for first, last in asked.ranges])

    return capability


def renew_epoch(renew: Callable[[int], int]) -> Capability:
    """Make the capability that begins a new epoch, since the present one names two readings."""
    return lambda data: {"epoch": renew(_renew_from(data).epoch)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """Which readings are asked for: ranges of one epoch, both ends included."""

    epoch: int
    ranges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        sane = all(0 <= first <= last <= KEY_MAX for first, last in self.ranges)
        if not sane or len(self.ranges) > RANGES_MAX or not 0 <= self.epoch <= KEY_MAX:
            raise EnvelopeError(f"ranges are up to {RANGES_MAX} pairs [first, last]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Which epoch was used twice."""

    epoch: int


def _resend_from(data: Any) -> Resend:
    made: Resend = shape.from_plain(Resend, data, EnvelopeError)
    return made


def _renew_from(data: Any) -> Renew:
    made: Renew = shape.from_plain(Renew, data, EnvelopeError)
    return made


def reading_table(reading: Reading) -> dict[str, Any]:
    """Return a reading as a plain table, for people: time in RFC 3339, points by name."""
    points = {
        point.name: {"value": point.value} | ({"unit": point.unit} if point.unit else {})
        for point in reading.points
    }
    table = {"device": reading.device, "epoch": reading.epoch, "seq": reading.seq}
    if reading.time_us is not None:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=reading.time_us)
        return table | {"time": moment.isoformat().replace("+00:00", "Z"), "points": points}
    return table | {"mono_us": reading.mono_us, "points": points}


def _message(topic: str, reply: Reply) -> Message:
    return Message(topic=topic, payload=envelope.encode(reply), content_type=envelope.CONTENT_TYPE)
