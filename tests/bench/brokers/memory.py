"""Memory: a thousand clients over mutual TLS, ten thousand idle plain sessions."""

import time

from tests.bench.brokers.contenders import Contender, ours, stand_alone
from tests.bench.brokers.measuring import SENSORS, Bench
from tests.bench.kit.figures import Figure, Pair, alone, compared

_IDLE = 10_000
_SETTLE_S = 2.0


def _resident_mb(bench: Bench, contender: Contender, clients: int, *, tls: bool) -> float:
    with (
        contender.start(bench.work, bench.identities) as broker,
        bench.load(broker, "--publishers", f"bench:{clients}", tls=tls) as load,
    ):
        time.sleep(_SETTLE_S)
        bench.say(f"{contender.name}: {load.ready} clients, {broker.rss_mb():.0f} MB")
        return broker.rss_mb()


def tls_clients(bench: Bench, peers: list[Contender]) -> list[Figure]:
    """A thousand connected clients with an SVID each, on both event loops.

    The target is the stand-alone broker's; with the policy engine and the full rules of X.509-SVIDs
    in the same process, as in the gateway, it is reported.
    """
    figures: list[Figure] = []
    for loop, target in (("uvloop", 75.0), ("asyncio", 110.0)):
        alone_mb = _resident_mb(bench, stand_alone("plantroom-tls", loop), SENSORS, tls=True)
        with_policy_mb = _resident_mb(bench, ours(loop), SENSORS, tls=True)
        name = f"memory, {SENSORS:,} mTLS clients, {loop}"
        figures += [
            alone(name, alone_mb, unit="MB", target=target, better="less", note="stand-alone"),
            alone(name, with_policy_mb, unit="MB", better="less", note="with policy engine, certs"),
        ]
    for peer in peers:
        theirs = _resident_mb(bench, peer, SENSORS, tls=True)
        figures.append(
            compared(
                f"memory, {SENSORS:,} mTLS clients, uvloop",
                [Pair(figures[0].ours or 0.0, theirs)],
                peer_name=peer.name,
                unit="MB",
                better="less",
            )
        )
    return figures


def idle_sessions(bench: Bench) -> Figure:
    """Ten thousand plain sessions on the stand-alone broker; that they all connect is the test."""
    megabytes = _resident_mb(bench, stand_alone("plantroom-plain"), _IDLE, tls=False)
    return alone(f"memory, {_IDLE:,} idle plain sessions", megabytes, unit="MB", note="all up")
