"""How long one decision takes: from the cache, from the engine, and from a real OPA server."""

import http.client
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from plantroom.policies import answer
from plantroom.policies.cached import CachedPoint
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.clock import SystemClock
from plantroom.wire.policy import Question
from tests.bench.kit.figures import Better, Figure, Pair, alone, compared, missing
from tests.bench.kit.identities import SITE
from tests.fakes import opa
from tests.fakes.issuer import BUILDING

DEVICES = 10_000
LESS: Better = "less"
_CACHED, _UNCACHED = "cached decision, p50", "uncached decision, p50, 10,000 devices"
_PEER = "OPA server over HTTP"


def world(devices: int) -> dict[str, Any]:
    """Make a registry of so many sensors, one of them revoked."""
    names = [f"hvac-{number:05d}" for number in range(devices)]
    entries = {
        id_of(name): {"role": "sensor", "site": SITE, "device": name, "status": "active"}
        for name in names
    }
    revoked = {id_of(names[-1]): "lost"}
    return {
        "registry": {"devices": entries},
        "revocation": {"generation": 1, "spiffe_ids": revoked, "serials": {}},
    }


def id_of(name: str) -> str:
    """Return a sensor's SPIFFE ID."""
    return f"spiffe://{BUILDING}/agent/{name}"


def questions(count: int) -> list[Question]:
    """Ask for so many sensors, half of them on topics that they may not publish to."""
    return [
        Question(
            spiffe_id=id_of(f"hvac-{number:05d}"),
            cert_serial="0A",
            client_id=f"hvac-{number:05d}",
            action="publish",
            topic=f"v1/{SITE}/telemetry/hvac-{number + number % 2:05d}",
            qos=1,
        )
        for number in range(count)
    ]


def p50_us(ask: Callable[[Question], object], asked: Sequence[Question]) -> float:
    """Return the median time of one answer, in microseconds."""
    took = []
    for question in asked:
        began = time.perf_counter_ns()
        ask(question)
        took.append(time.perf_counter_ns() - began)
    return median(took) / 1000


def decisions(*, quick: bool) -> list[Figure]:
    """Measure ours, and OPA's answer to the same questions where there is an OPA."""
    asked = questions(500 if quick else 5000)
    with closing(EmbeddedPoint.load()) as point:
        point.update(**world(DEVICES))
        cached = CachedPoint(point, SystemClock())
        for question in asked:
            cached.now(question)

        def from_cache() -> float:
            return median(p50_us(cached.now, asked) for _ in range(5))

        def from_engine() -> float:
            return p50_us(point.now, asked)

        found = opa.find() if quick else opa.find() or _built()
        if found is None:
            why = "scripts/install-opa builds it, where Go is"
            return [
                alone(_CACHED, from_cache(), unit="us", target=5.0, better=LESS),
                alone(_UNCACHED, from_engine(), unit="us", target=1000.0, better=LESS),
                missing(_UNCACHED, peer_name=_PEER, unit="us", why=why),
            ]
        return _beside(found, from_cache, from_engine, asked, rounds=2 if quick else 5)


def _built() -> str | None:
    try:
        return opa.need()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return None


def _beside(
    command: str,
    from_cache: Callable[[], float],
    from_engine: Callable[[], float],
    asked: Sequence[Question],
    *,
    rounds: int,
) -> list[Figure]:
    """Measure in turns; the targets are about our own times, the ratios are to know."""
    with tempfile.TemporaryDirectory() as folder, opa.serving(command, Path(folder)) as port:
        server = _Server(port)
        try:
            for name, document in world(DEVICES).items():
                server.put(name, document)
            runs = [
                (from_cache(), from_engine(), p50_us(server.ask, asked[:500]))
                for _ in range(rounds)
            ]
            inside_us = server.inside_us(asked[:200])
        finally:
            server.close()
    cached, engine, theirs = zip(*runs, strict=True)
    found = [
        alone(_CACHED, median(cached), unit="us", target=5.0, better=LESS),
        alone(_UNCACHED, median(engine), unit="us", target=1000.0, better=LESS),
    ]
    for name, ours, peer in (
        (_CACHED, cached, _PEER),
        (_UNCACHED, engine, _PEER),
    ):
        pairs = [Pair(a, b) for a, b in zip(ours, theirs, strict=True)]
        found.append(compared(name, pairs, peer_name=peer, unit="us", better=LESS))
    pairs = [Pair(one, inside_us) for one in engine]
    peer = "OPA's own evaluation, without HTTP"
    return [*found, compared(_UNCACHED, pairs, peer_name=peer, unit="us", better=LESS)]


class _Server:
    """A real OPA, asked over one connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def _say(self, method: str, path: str, body: object) -> bytes:
        head = {"Content-Type": "application/json"}
        self._connection.request(method, path, json.dumps(body), head)
        said = self._connection.getresponse()
        text = said.read()
        if said.status >= 300:
            raise RuntimeError(f"OPA says {said.status}: {text[:200]!r}")
        return text

    def put(self, name: str, document: object) -> None:
        self._say("PUT", f"/v1/data/{name}", document)

    def ask(self, question: Question) -> bool:
        body = {"input": answer.document_of(question)}
        said = json.loads(self._say("POST", "/v1/data/mqtt/authz/decision", body))
        return bool(said["result"]["allow"])

    def inside_us(self, asked: Sequence[Question]) -> float:
        """Return the median of what OPA itself counts for an evaluation."""
        took = []
        for question in asked:
            body = {"input": answer.document_of(question)}
            path = "/v1/data/mqtt/authz/decision?metrics=true"
            metrics = json.loads(self._say("POST", path, body))["metrics"]
            took.append(metrics["timer_rego_query_eval_ns"] / 1000)
        return float(median(took))

    def close(self) -> None:
        self._connection.close()
