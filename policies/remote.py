"""The decision point in an OPA server, over HTTPS with both ends' SVIDs.

The server holds the bundle (its own business: a folder, a bundle service); registry and revocations
are delivered to it here, through its data API, and again whenever it has lost them. Nothing is
decided by data that the server may not have: until they are delivered, the answer is no.
"""

import asyncio
import json
import logging
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self

import aiohttp

from plantroom.policies import answer
from plantroom.policies.breaker import Breaker
from plantroom.policies.embedded import CLOUD_TRUST_DOMAIN, checked_registry, checked_revocation
from plantroom.policies.opa_client import Endpoint, OpaClient
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError, PlantroomError
from plantroom.wire.metrics import Metric
from plantroom.wire.policy import Decision, Question

SOURCE = "remote"
TIMEOUT_S = 0.25
DELIVERY_S = 10.0  # the whole registry may be some megabytes
STALE_S = 5.0
_LOG = logging.getLogger("plantroom.policies.remote")
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "policy-timeout"),
    (aiohttp.ClientResponseError, "policy-error"),
    (aiohttp.ClientPayloadError, "malformed-answer"),
    (aiohttp.ClientError, "policy-unreachable"),
    (OSError, "policy-unreachable"),
    (PlantroomError, "policy-unreachable"),  # no identity to connect with
    (ValueError, "malformed-answer"),
)


class RemotePoint:
    """Asks an OPA server; every fault is a denial, within `timeout_s`.

    An async context manager; `run` has to run while it is asked. `context` gives the TLS context
    to connect with (None: plain HTTP on this machine), `identity` a number that rises with the
    SVID, so that a new one is taken. Without `push` the server gets its data some other way;
    with it, `label` says there whose data they are: nobody else's may be there.
    """

    def __init__(  # noqa: PLR0913 -- what a server needs to be asked, each named
        self,
        endpoint: Endpoint,
        *,
        clock: Clock,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        identity: Callable[[], int] = lambda: 0,
        push: bool = True,
        poll_s: float = 0.5,
        timeout_s: float = TIMEOUT_S,
        cloud_trust_domain: str = CLOUD_TRUST_DOMAIN,
        label: str = "plantroom",
    ) -> None:
        self._endpoint, self._clock, self._label = endpoint, clock, label
        self._context, self._identity = context, identity
        self._push, self._poll_s, self._timeout_s = push, poll_s, timeout_s
        self._cloud_trust_domain = cloud_trust_domain
        self._prefix, self._count = secrets.token_hex(6), 0
        self._client: OpaClient | None = None
        self._client_of = -1
        self._retired: list[OpaClient] = []
        self._listeners: list[Callable[[], None]] = []
        self._data: dict[str, Mapping[str, Any]] = {}
        self._undelivered: set[str] = set()
        self._undelivered_us = 0
        self._current = asyncio.Event()  # the server has the revocations that we have
        self._wake = asyncio.Event()
        self._marker: object = None
        self._trouble = "the OPA server has not been reached yet"
        self.breaker = Breaker()
        self.generation = 0
        self.revision = ""
        self.failures: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in (*self._retired, *([self._client] if self._client else [])):
            await client.close_connection()
        self._client, self._retired = None, []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every change of `generation`."""
        self._listeners.append(callback)

    def update(
        self,
        *,
        registry: Mapping[str, Any] | None = None,
        revocation: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a new registry, new revocations, or both, to be delivered to the server.

        Raises:
            ConfigError: when one is not of its form; the old ones stay.
        """
        given = {
            "registry": None if registry is None else checked_registry(registry),
            "revocation": None if revocation is None else checked_revocation(revocation),
        }
        before = self._data.get("revocation")
        for name, document in given.items():
            if document is not None and document != self._data.get(name):
                self._data[name] = json.loads(json.dumps(document))
                self._owe(name)
        if self._data.get("revocation") != before:
            self._changed()  # whom it names is refused here, whatever the server knows
        self._wake.set()

    def _owe(self, *names: str) -> None:
        if not self._undelivered:
            self._undelivered_us = self._clock.monotonic_us()
        self._undelivered.update(names)
        if "revocation" in self._undelivered:
            self._current.clear()

    def now(self, question: Question) -> Decision | None:
        """Answer without the server what needs none: the revoked are refused."""
        reason = self._own_refusal(question)
        return self._denial(reason) if reason else None

    async def decide(self, question: Question) -> Decision:
        """Ask the server."""
        refusal = self.now(question)
        if refusal is not None:
            return refusal
        if not self.breaker.admits(self._now_s()):
            return self._fault("policy-breaker-open")
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._push:
                    await self._current.wait()
                said = await self._ask("mqtt.authz", "decision", answer.document_of(question))
            self.breaker.succeeded()
            return self._read(said)
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong in asking is a denial
            return self._failed(error)

    async def query(self, path: str, document: object) -> list[object]:
        """Return what there is at a path for an input: one value, or none.

        Raises:
            ConfigError: when the server gives no answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await self._ask(path.replace("/", "."), None, document)
        except Exception as error:
            raise ConfigError(f"OPA server: {_one_line(error)}") from error
        return [said["result"]] if isinstance(said, dict) and "result" in said else []

    async def run(self) -> None:
        """Keep the server's data as they should be, for ever; look for new bundles of its own."""
        while True:
            try:
                async with asyncio.timeout(DELIVERY_S):
                    await self._synchronise()
            except Exception as error:  # noqa: BLE001 -- whatever the server does, it is asked again
                self._say(f"{type(error).__name__}: {_one_line(error)}")
            else:
                self._say("")
            self._wake.clear()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def status(self) -> dict[str, object]:
        """Say how the server is."""
        return {
            "endpoint": f"{self._endpoint.host}:{self._endpoint.port}",
            "breaker": self.breaker.state,
            "data": "delivered" if not self._undelivered else "pending",
            "trouble": self._trouble,
        }

    def metrics(self) -> list[Metric]:
        """Return the server's figures, as seen from here."""
        name, what = "plantroom_policy_server_failures_total", "Questions without an answer"
        failures = [
            Metric(name, "counter", what, count, {"reason": reason})
            for reason, count in self.failures.items()
        ]
        return [
            Metric(
                "plantroom_policy_server_breaker_open",
                "gauge",
                "1 while the OPA server is not asked",
                self.breaker.state != "closed",
            ),
            Metric(
                "plantroom_policy_server_data_pending",
                "gauge",
                "1 while it lacks registry or revocations",
                bool(self._undelivered),
            ),
            *failures,
        ]

    # -- asking

    def _own_refusal(self, question: Question) -> str:
        """Return why this is refused whatever the server says, empty where it has to be asked."""
        try:  # OPA makes U+FFFD of a lone surrogate, and would decide about another text
            json.dumps(answer.document_of(question), ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError):
            return "malformed"
        if not self._push:
            return ""
        revocation = self._data.get("revocation")
        if revocation is None:
            return "no-revocation-data"
        if question.spiffe_id in revocation["spiffe_ids"] or (
            question.cert_serial in revocation["serials"]
        ):
            return "revoked"
        waited_us = self._clock.monotonic_us() - self._undelivered_us
        if self._undelivered and waited_us > STALE_S * 1_000_000:
            return "policy-data-pending"
        return ""

    async def _ask(self, package: str, rule: str | None, document: object) -> Any:
        client = await self._connected()
        return await client.query_rule(document, package, rule)

    def _read(self, said: Any) -> Decision:
        fields = said if isinstance(said, dict) else {}
        given = fields.get("decision_id")
        own = isinstance(given, str) and _ID.fullmatch(given)
        return answer.read(
            fields.get("result"),
            decision_id=str(given) if own else self._decision_id(),
            source=SOURCE,
            revision=self.revision,
        )

    def _failed(self, error: Exception) -> Decision:
        self.breaker.failed(self._now_s())
        reason = next((word for kind, word in _FAULTS if isinstance(error, kind)), "policy-fault")
        if isinstance(error, TimeoutError) and not self._current.is_set() and self._push:
            reason = "policy-data-pending"
        return self._fault(reason)

    def _fault(self, reason: str) -> Decision:
        self.failures[reason] = self.failures.get(reason, 0) + 1
        return self._denial(reason)

    def _denial(self, reason: str) -> Decision:
        return answer.denial(
            reason, decision_id=self._decision_id(), source=SOURCE, revision=self.revision
        )

    def _decision_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    def _now_s(self) -> float:
        return self._clock.monotonic_us() / 1_000_000

    # -- the server's data

    async def _connected(self) -> OpaClient:
        """Return a client with the newest identity; older ones finish what they do."""
        number = self._identity()
        if self._client is None or self._client_of != number:
            client = OpaClient(self._endpoint, self._context(), timeout_s=self._timeout_s)
            await client._init_session()  # noqa: SLF001 -- what `async with` would do
            if self._client is not None:
                self._retired.append(self._client)
            self._client, self._client_of = client, number
        return self._client

    async def _synchronise(self) -> None:
        """Look whether the server has what it should have; deliver what it lacks."""
        await self._connected()
        while self._retired:
            await self._retired.pop().close_connection()  # asked nothing for a whole period
        revision, marker = await self._look()
        if not self._push:
            if (revision, marker) != (self.revision, self._marker):
                self.revision, self._marker = revision, marker
                self._changed()
            return
        if revision != self.revision:
            self.revision = revision
            self._owe("system")
        if "revocation" not in self._data:
            return
        if marker != self._marker:
            self._owe("registry", "revocation", "system")  # the server, or we, have been restarted
            self._check_own(marker)
        if self._undelivered:
            await self._deliver()

    async def _look(self) -> tuple[str, object]:
        """Return the revision of the server's bundles, and what tells whose data it has."""
        client = await self._connected()
        system = (await client.query_rule({}, "system")).get("result", {})
        revisions = [
            str(one.get("manifest", {}).get("revision", ""))
            for _, one in sorted(system.get("bundles", {}).items())
        ]
        revision = "+".join(filter(None, revisions)) or "unknown"
        if self._push:
            return revision, system.get("plantroom", {}).get("marker")
        return revision, (await client.query_rule({}, "revocation", "generation")).get("result")

    def _check_own(self, marker: object) -> None:
        """Refuse a server that decides by the registry of another gateway or cloud."""
        owner = marker.rpartition(" ")[0] if isinstance(marker, str) else ""
        if owner and owner != self._label:
            raise ConfigError(
                f"the OPA server has the registry of {owner[:200]}",
                remedy="give each gateway and cloud a server of its own, or restart this one",
            )

    async def _deliver(self) -> None:
        """Put every document that has changed; the marker last, so that half is not taken as all.

        Raises:
            Exception: what the client raises, when the server does not take one.
        """
        owed = sorted(self._undelivered - {"system"})
        documents = {name: self._data[name] for name in owed if name in self._data}
        marker = f"{self._label} {secrets.token_hex(8)}"
        async with OpaClient(self._endpoint, self._context(), timeout_s=DELIVERY_S) as client:
            for name, document in documents.items():
                await client.update_or_create_data(document, name)
            await client.update_or_create_data({"marker": ""}, "system/plantroom")
            about = {
                "revision": self.revision,
                "cloud_trust_domain": self._cloud_trust_domain,
                "plantroom": {"marker": marker},
            }
            patches = [{"op": "add", "path": f"/{k}", "value": v} for k, v in about.items()]
            await client.patch_data("system", patches)
        self._marker = marker
        late = {name for name, sent in documents.items() if self._data[name] is not sent}
        self._undelivered = late
        if "revocation" not in late:
            self._current.set()
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        for callback in self._listeners:
            callback()

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _LOG.error("OPA server %s:%d: %s", self._endpoint.host, self._endpoint.port, trouble)
        elif not trouble and self._trouble:
            _LOG.info("OPA server %s:%d answers", self._endpoint.host, self._endpoint.port)
        self._trouble = trouble


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
