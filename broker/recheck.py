"""Asks again about live connections and their subscriptions when policy or revocations change."""

import asyncio

from plantroom.broker import audit
from plantroom.broker.codes import Code
from plantroom.broker.connection import Connection
from plantroom.broker.engine import Engine
from plantroom.broker.guard import Ask, UndecidedError
from plantroom.wire.policy import Decision

_AT_ONCE = 20  # connections between two breaths of the loop


class Recheck:
    """Closes what is no longer allowed, and drops subscriptions that are not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted = asyncio.Event()
        self.rounds = 0

    def want(self) -> None:
        """Ask for a round: the decision point's generation has changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Go over all connections after every change."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            for number, connection in enumerate(list(self._engine.connections), 1):
                if connection.accepted and connection.open:
                    await self._check(connection)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            self.rounds += 1

    async def _decide(self, connection: Connection, ask: Ask) -> Decision:
        guard, peer = self._engine.guard, connection.peer
        try:
            return guard.ask(peer, ask)
        except UndecidedError:
            return await guard.settle_one(peer, ask)

    async def _check(self, connection: Connection) -> None:
        engine = self._engine
        decision = await self._decide(connection, Ask("connect"))
        if decision.allow is not True:
            engine.counters.denied += 1
            audit.record("revoked", connection.peer, decision=decision)
            reason = f"{decision.reason} (decision {decision.decision_id})"
            connection.fail(Code.NOT_AUTHORIZED, reason)
            return
        client = connection.client
        for topic_filter, grant in list(client.subscriptions.items()) if client else ():
            decision = await self._decide(connection, Ask("subscribe", topic_filter, grant.qos))
            if decision.allow is not True and client is not None:
                audit.record(
                    "subscription-dropped", connection.peer, topic=topic_filter, decision=decision
                )
                engine.clients.unsubscribe(client, topic_filter)
