"""Asks again about live connections and their subscriptions when policy or revocations change."""

import asyncio

from plantroom.broker.clients import Client
from plantroom.broker.codes import Code
from plantroom.broker.engine import Engine
from plantroom.broker.guard import Ask, Peer, UndecidedError
from plantroom.broker.outlets import Outlet
from plantroom.broker.withdrawal import withdraw
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
            for number, client in enumerate(self._engine.clients, 1):
                if client.connection is not None:
                    await self._check(client, client.connection)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            self.rounds += 1

    async def _decide(self, peer: Peer, ask: Ask) -> Decision:
        try:
            return self._engine.guard.ask(peer, ask)
        except UndecidedError:
            return await self._engine.guard.settle_one(peer, ask)

    async def _check(self, client: Client, connection: Outlet) -> None:
        engine, peer = self._engine, connection.peer
        decision = await self._decide(peer, Ask("connect"))
        if decision.allow is not True:
            engine.counters.denied += 1
            engine.audit.record("revoked", peer, decision=decision)
            reason = f"{decision.reason} (decision {decision.decision_id})"
            connection.fail(Code.NOT_AUTHORIZED, reason)
            return
        for topic_filter, grant in list(client.subscriptions.items()):
            decision = await self._decide(peer, Ask("subscribe", topic_filter, grant.qos))
            if decision.allow is not True and client.connection is connection:
                engine.audit.record(
                    "subscription-dropped", peer, topic=topic_filter, decision=decision
                )
                withdraw(engine.clients, engine.tree, client, topic_filter)
