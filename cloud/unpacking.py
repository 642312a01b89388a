"""What gateways publish, told apart: batches, unreadable batches, hellos, and the rest. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from plantroom.cloud.store import Delivery
from plantroom.wire import envelope, topics
from plantroom.wire.envelope import Batch, Hello
from plantroom.wire.errors import EnvelopeError, TopicError, WireError
from plantroom.wire.link import Message
from plantroom.wire.topics import Topic

BATCHES = ("uplink/{gateway}/live", "uplink/{gateway}/backfill")
HELLO = "uplink/{gateway}/hello"
Place = tuple[str, str]  # site, gateway


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A batch whose name can be read, and nothing else."""

    place: Place
    incarnation: int
    number: int
    why: str


@dataclass(slots=True)
class Unpacked:
    """Messages, told apart; `refused` are those that cannot even be answered, with the reason."""

    deliveries: list[Delivery] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    hellos: list[tuple[Place, Hello]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def unpack(messages: Iterable[Message], *, received_us: int) -> Unpacked:
    """Tell messages of the uplink topics apart."""
    result = Unpacked()
    for message in messages:
        try:
            topic = topics.parse(message.topic)
            _unpack(topic, message.payload, result, received_us)
        except (TopicError, EnvelopeError) as error:
            result.refused.append(f"{message.topic}: {error}")
    return result


def _unpack(topic: Topic, payload: bytes, result: Unpacked, received_us: int) -> None:
    if topic.pattern == HELLO:
        place = (topic.site, topic.names[0])
        result.hellos.append((place, envelope.decode(payload, Hello)))
    elif topic.pattern in BATCHES:
        place = (topic.site, topic.names[0])
        try:
            batch = envelope.decode(payload, Batch)
        except WireError as error:
            incarnation, number = envelope.batch_name(payload)
            result.unreadable.append(Unreadable(place, incarnation, number, str(error)))
        else:
            result.deliveries.append(
                Delivery(site=place[0], gateway=place[1], batch=batch, received_us=received_us)
            )
    else:
        raise TopicError("not an uplink topic", where=str(topic))
