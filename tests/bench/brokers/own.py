"""Our broker as the benchmark runs it: SQLite, mutual TLS, the real policy, one durable tap.

The same parts as in the gateway's `app.py`, without the stages behind the tap: `_Drain` stands for
them and moves the tap's cursor, so that the broker prunes its log as it does in service.
"""

import argparse
import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.certs.svid import parse_svid, verify_peer
from plantroom.policies.cached import CachedPoint
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire import service, tls, topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.database import Database
from plantroom.wire.identity import Identity, Principal, TrustBundle
from tests.bench.kit.identities import SITE, roots_der
from tests.fakes.issuer import BUILDING

TELEMETRY = topics.subscription("telemetry/{device}", SITE)
_DRAIN_S = 0.25


class _Drain:
    """Moves the tap's cursor to the newest segment, a few times a second."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_DRAIN_S)
            await self._database.write(
                lambda sql: sql.execute(
                    "INSERT OR REPLACE INTO tap SELECT 'bench', coalesce(max(id), 0) FROM segment"
                )
            )


def identity_of(folder: Path) -> Identity:
    """Read the server's identity from a benchmark's folder of identities."""
    svid = parse_svid((folder / "server.crt").read_bytes(), (folder / "server.key").read_bytes())
    bundle = TrustBundle(trust_domain=BUILDING, roots_der=roots_der(folder))
    return Identity(svid=svid, bundles={BUILDING: bundle}, revision=1)


def admit_by(identity: Identity, connection: Any) -> Principal:
    """Check a client's certificate as the gateway does."""
    return verify_peer(connection, identity)


def policy_of(folder: Path) -> CachedPoint:
    """Load the shipped bundle with the registry of a benchmark's identities, behind its cache."""
    point = EmbeddedPoint.load()
    point.update(
        registry=json.loads((folder / "registry.json").read_text()),
        revocation={"generation": 0, "spiffe_ids": {}, "serials": {}},
    )
    return CachedPoint(point, SystemClock())


async def _main(identities: Path, folder: Path, port: int, *, policy: bool) -> None:
    database = Database.open(folder / "broker.db", MIGRATIONS)
    identity = identity_of(identities)
    try:
        async with Broker(
            limits=BrokerLimits(),
            store=SqliteStore(database),
            admit=partial(admit_by, identity),
            decisions=policy_of(identities) if policy else None,
            clock=SystemClock(),
            taps=(TELEMETRY,),
        ) as broker:
            await broker.listen("127.0.0.1", port, tls.server_context(identity))
            await _Drain(database).run()
    finally:
        database.close()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--policy", choices=("on", "off"), default="on")
    given = parser.parse_args()
    policy = given.policy == "on"
    stage = partial(_main, given.identities, given.folder, given.port, policy=policy)
    if given.loop == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]  # as where it is not installed
    service.run(stage)


if __name__ == "__main__":
    main()
