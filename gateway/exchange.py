"""What besides readings crosses on one link to the cloud: the stage to the rules in crossing."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from plantroom.gateway import crossing
from plantroom.gateway.crossing import Upward
from plantroom.wire import topics
from plantroom.wire.errors import RefusedError, UnreachableError
from plantroom.wire.link import Link, Message

_log = logging.getLogger("plantroom.gateway.exchange")
_FAILURE = 0x80


class Exchange:
    """Publishes upwards what `upward` holds, and hands to `deliver` what comes down."""

    def __init__(
        self,
        link: Link,
        upward: Upward,
        *,
        site: str,
        trust_domain: str,
        deliver: Callable[[Message], Awaitable[object]],
    ) -> None:
        self._link = link
        self._upward = upward
        self._site = site
        self._trust_domain = trust_domain
        self._deliver = deliver
        self._asked: set[str] = set()

    async def subscribe(self) -> None:
        """Subscribe; what is refused to us does not cross, and is said."""
        for topic_filter in crossing.downward_filters(self._site):
            try:
                await self._link.subscribe(topic_filter)
            except RefusedError as error:
                _log.warning("does not cross downwards: %s", error)

    async def down(self, message: Message) -> None:
        """Publish in the building what the cloud has published, if that crosses.

        Raises:
            TopicError: when the topic is of no family.
        """
        topic = topics.parse(message.topic)
        way = crossing.direction(topic, site=self._site, trust_domain=self._trust_domain)
        if way == "down":  # what is passed on live comes without its flag [MQTT-3.3.1-9]
            await self._deliver(replace(message, retain=crossing.is_retained(topic)))

    async def run(self) -> None:
        """Publish what crosses upwards, one after the other; all that is retained goes again."""
        self._upward.resync()
        while True:
            message = await self._upward.take()
            try:
                await self._ask_for_reply(message)
                code = await self._link.publish(replace(message, qos=1))
            except UnreachableError:
                self._upward.put_back(message)
                raise
            if code >= _FAILURE:
                _log.warning("does not cross upwards, 0x%02x: %s", code, message.topic)

    async def _ask_for_reply(self, message: Message) -> None:
        """Subscribe to the replies of a caller of this building that calls a cloud service."""
        topic = topics.parse(message.topic)
        if not topic.pattern.startswith("call/") or topic.names[2] in self._asked:
            return
        wanted = topics.subscription("reply/{caller}/{id}", self._site, topic.names[2])
        try:
            await self._link.subscribe(wanted)
        except RefusedError as error:
            _log.warning("replies cannot come back: %s", error)
        self._asked.add(topic.names[2])
