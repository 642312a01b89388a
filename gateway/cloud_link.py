"""How this gateway reaches the cloud's broker: as whom, with which will, and when anew.

A renewed SVID is tried in a handshake of its own first: the link that works is given up only when
the next one is known to be accepted.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable

from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.gateway.bridge import Bridge
from plantroom.gateway.identities import Names
from plantroom.gateway.settings import WORKLOAD_API, GatewaySettings, split_address
from plantroom.wire import envelope, tls, topics
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import PlantroomError
from plantroom.wire.identity import Identity, IdentitySource
from plantroom.wire.link import Link, Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.cloud_link")
RETRY_S = 10.0
ALERT_S = 0.5  # in TLS 1.3 a refusal comes after the client's handshake is done


class CloudLink:
    """Makes connections to the cloud's broker with the newest identity."""

    def __init__(
        self,
        settings: GatewaySettings,
        names: Names,
        source: IdentitySource,
        keeper: BundleKeeper,
        presence: Callable[[bool], Presence],
    ) -> None:
        self._settings = settings
        self._names = names
        self._source = source
        self._keeper = keeper
        self._presence = presence

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Link]:
        """Connect; the will says when that ends."""
        settings = self._settings
        will = Message(
            topic=topics.build("presence/{device}", settings.agent.site, GATEWAY),
            payload=envelope.encode(self._presence(False)),
            retain=True,
        )
        async with MqttLink(
            *self._address,
            settings.agent.site,
            self._context(self._source.current()),
            keepalive_s=settings.bridge.keepalive_s,
            will=will,
            timeout_s=settings.bridge.answer_timeout_s,
        ) as link:
            yield link

    async def renewed(self, identity: Identity, bridge: Bridge) -> None:
        """Reconnect with a renewed identity once it has been accepted, or give it up for a newer.

        Until then the link that there is stays as it is.
        """
        trouble = ""
        while self._source.current().revision == identity.revision:
            if bridge.connected:
                try:
                    await asyncio.to_thread(self._try, self._context(identity))
                except (PlantroomError, OSError) as error:
                    if str(error) != trouble:
                        trouble = str(error)
                        _log.warning("the old SVID serves the bridge a while longer: %s", trouble)
                    await asyncio.sleep(RETRY_S)
                    continue
            bridge.reconnect("the identity was renewed")
            return

    @property
    def _address(self) -> tuple[str, int]:
        return split_address(self._settings.bridge.address, "bridge.address")

    def _context(self, identity: Identity) -> ssl.SSLContext:
        by_agent = self._settings.identity.provider == WORKLOAD_API  # it knows the roots of now
        trusting = identity if by_agent else self._keeper.on_top_of(identity)
        return tls.client_context(trusting, server_ids=(self._names.front,))

    def _try(self, context: ssl.SSLContext) -> None:
        """Do a handshake, and wait a moment for the refusal that may follow it."""
        timeout_s = self._settings.bridge.answer_timeout_s
        with (
            socket.create_connection(self._address, timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=None) as connection,
        ):
            connection.settimeout(ALERT_S)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    raise ConnectionResetError("the cloud's broker closed the connection")
