"""The devices service: who is known, who is online, who was seen last."""

import logging

from plantroom.cloud.store import Store
from plantroom.views.board import Board, Latest
from plantroom.wire import envelope, topics
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import WireError
from plantroom.wire.link import Message
from plantroom.wire.topics import GATEWAY

LOG = logging.getLogger("plantroom.cloud.devices")
PRESENCE_FILTER = topics.subscription("presence/{device}", "+")


class Devices:
    """Keeps the board's presence, and its values through a restart."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.stale_wills = 0

    async def restore(self, store: Store) -> None:
        """Show what the store remembers of every point."""
        for each in await store.latest():
            latest = Latest(
                unit=each.unit,
                value=each.value,
                time_us=each.time_us,
                epoch=each.epoch,
                seq=each.seq,
            )
            self._board.restore((each.site, each.device), each.point, latest)

    def present(self, message: Message, publisher: str) -> None:
        """Take a birth or a will as it passes the broker."""
        try:
            topic = topics.parse(message.topic)
            presence: Presence = envelope.decode(message.payload, Presence)
        except WireError as error:
            LOG.warning("presence refused, %s by %s: %s", message.topic, publisher, error)
            return
        if topic.site != topics.CLOUD_SITE and not self._board.presence(
            topic.site, topic.names[0], presence
        ):
            self.stale_wills += 1

    def gateways(self) -> list[dict[str, object]]:
        """Give the gateways that have ever been heard of, with their state."""
        described = [
            self._board.describe(key) for key in self._board.devices() if key[1] == GATEWAY
        ]
        return [
            {name: each[name] for name in ("site", "online", "since")}
            for each in described
            if each is not None
        ]
