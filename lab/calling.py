"""Ask a device or a service to do something, and wait for its answer."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from plantroom.certs.roles import CLOUD_TRUST_DOMAIN, site_of
from plantroom.lab import tools
from plantroom.lab.layout import Layout
from plantroom.lab.tools import Broker
from plantroom.wire import envelope, topics
from plantroom.wire.errors import CheckFailedError, RefusedError, UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId

NO_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1
FAILURE = 0x80
NOT_AUTHORIZED = 0x87


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question: whom, what, and how long the answer may take."""

    target: SpiffeId
    capability: str
    data: Any
    timeout_s: float
    idempotency_key: str | None = None


async def call(layout: Layout, asked: Asked, *, broker: Broker | None = None) -> Any:
    """Return what the target answered.

    Raises:
        UnreachableError: when it was not delivered or not answered in time.
        RefusedError: when identity or policy says no.
        CheckFailedError: when the target answered with an error.
    """
    nearest = tools.broker_of(asked.target)
    chosen = broker or nearest
    if (chosen, nearest) == ("gateway", "cloud"):
        raise UnreachableError(
            "not delivered, a gateway brings no calls of people to the cloud",
            where=str(asked.target),
            remedy="ask at the cloud's broker: leave --via gateway out",
        )
    try:
        async with asyncio.timeout(asked.timeout_s):
            async with tools.connected(layout, person="operator", broker=chosen) as (link, caller):
                site = site_of(asked.target, cloud_trust_domain=CLOUD_TRUST_DOMAIN)
                level = caller.level(cloud_trust_domain=CLOUD_TRUST_DOMAIN)
                request = uuid.uuid4().hex
                reply_to = topics.build("reply/{caller}/{id}", site, level, request)
                await link.subscribe(reply_to)
                answers = link.messages()
                _check_delivered(asked, await link.publish(_message(asked, site, level, reply_to)))
                return await _answer(asked, answers, request)
    except TimeoutError:
        raise UnreachableError(
            f"not delivered, or no answer within {asked.timeout_s:g} s",
            where=str(asked.target),
            remedy="see whether it is online: plantroom devices ls",
        ) from None


def _message(asked: Asked, site: str, level: str, reply_to: str) -> Message:
    request = reply_to.rpartition("/")[2]
    body = envelope.Call(
        id=request,
        reply_to=reply_to,
        timeout_s=asked.timeout_s,
        idempotency_key=asked.idempotency_key or request,
        data=asked.data,
    )
    return Message(
        topic=topics.build(
            "call/{target}/{capability}/{caller}", site, asked.target.name, asked.capability, level
        ),
        payload=envelope.encode(body),
        content_type=envelope.CONTENT_TYPE,
        response_topic=reply_to,
        expiry_s=max(1, round(asked.timeout_s)),
    )


def _check_delivered(asked: Asked, code: int) -> None:
    if code == NO_SUBSCRIBERS:
        raise UnreachableError(
            "not delivered, nobody there listens for this capability",
            where=str(asked.target),
            remedy="see whether it is online: plantroom devices ls",
        )
    if code >= FAILURE:
        raise RefusedError(
            f"the broker refuses the call (reason code 0x{code:02x})",
            reason="not-authorized" if code == NOT_AUTHORIZED else f"0x{code:02x}",
            where=f"{asked.target} {asked.capability}",
            remedy="see why: plantroom policy explain",
        )


async def _answer(asked: Asked, answers: AsyncIterator[Message], request: str) -> Any:
    async for message in answers:
        reply = envelope.decode(message.payload, envelope.Reply)
        if reply.id != request:
            continue
        if reply.error is not None:
            raise CheckFailedError(
                f"it answered with an error: {reply.error}", where=str(asked.target)
            )
        return reply.data
    raise UnreachableError("the connection ended before the answer", where=str(asked.target))
