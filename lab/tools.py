"""Connections of people's tools to the brokers of a state folder."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from plantroom.certs.roles import CLOUD_TRUST_DOMAIN
from plantroom.lab import people, running
from plantroom.lab.building import FRONT_ID, GATEWAY_ID
from plantroom.lab.layout import Layout
from plantroom.lab.ports import HOST
from plantroom.wire import tls
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId

Person = Literal["operator", "inspector"]
Broker = Literal["gateway", "cloud"]
BROKERS: tuple[Broker, ...] = ("gateway", "cloud")
TIMEOUT_S = 10.0
_NUMBERS = itertools.count(1)  # a second connection of one process takes over none


@asynccontextmanager
async def connected(
    layout: Layout, *, person: Person, broker: Broker, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[tuple[MqttLink, SpiffeId]]:
    """Connect to a broker of the running building, and say as whom.

    Raises:
        UnreachableError: when nothing runs there or answers in time.
        RefusedError: when identity or policy says no.
    """
    ports = running.need(layout).ports
    identity = people.load(layout.operator if person == "operator" else layout.inspector)
    server, port = (
        (GATEWAY_ID, ports.gateway_mqtt) if broker == "gateway" else (FRONT_ID, ports.cloud_mqtt)
    )
    context = await asyncio.to_thread(tls.client_context, identity, server_ids=[server])
    client_id = f"plantroom-{person}-{os.getpid()}-{next(_NUMBERS)}"
    async with MqttLink(HOST, port, client_id, context, timeout_s=timeout_s) as link:
        yield link, identity.svid.spiffe_id


def broker_of(target: SpiffeId) -> Broker:
    """Return the broker that a target is nearest to."""
    return "cloud" if target.trust_domain == CLOUD_TRUST_DOMAIN else "gateway"
