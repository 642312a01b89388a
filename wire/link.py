"""The link seam: an MQTT connection as bridge, cloud services and tools use it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One application message; the properties are MQTT 5's and empty over MQTT 3.1.1."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    user: Mapping[str, str] = field(default_factory=dict)


class Link(Protocol):
    """A connected MQTT client; a simulation brings its own."""

    async def publish(self, message: Message) -> int:
        """Send, wait for the PUBACK (QoS 1) and return its reason code (0 over MQTT 3.1.1).

        Raises:
            UnreachableError: when the connection is lost before the answer.
        """
        ...

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Subscribe.

        Raises:
            RefusedError: when the broker says no.
            UnreachableError: when the connection is lost.
        """
        ...

    def messages(self) -> AsyncIterator[Message]:
        """Give what arrives, in order, until the connection is lost (UnreachableError)."""
        ...
