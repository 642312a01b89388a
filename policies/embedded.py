"""The decision point in this process: the bundle, evaluated where the broker runs.

It answers synchronously on the one thread that made it, a few hundred microseconds a question;
`cached.CachedPoint` in front of it makes that a few.
"""

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plantroom import policies
from plantroom.policies import answer, bundle, rego
from plantroom.policies.bundle import Bundle
from plantroom.wire.errors import ConfigError
from plantroom.wire.policy import Decision, Question

SOURCE = "embedded"
ENTRY = "data.mqtt.authz.decision"
CLOUD_TRUST_DOMAIN = "smart-building.cloud"
_LOG = logging.getLogger("plantroom.policies.embedded")
_NOBODY = Question(spiffe_id="", cert_serial="", client_id="", action="connect")


class EmbeddedPoint:
    """Answers at once, on the thread that made it, from the bundle and what `update` was given.

    The engine in it ends on that thread too: `close` it there. Before the first `update` nobody is
    registered and there is no revocation data: everybody is denied.
    """

    def __init__(self, rules: Bundle, *, cloud_trust_domain: str = CLOUD_TRUST_DOMAIN) -> None:
        self._cloud_trust_domain = cloud_trust_domain
        self._thread = threading.get_ident()
        self._prefix, self._count = secrets.token_hex(6), 0
        self._listeners: list[Callable[[], None]] = []
        self._generation = 0
        self._registry: Mapping[str, Any] = {"devices": {}}
        self._revocation: Mapping[str, Any] | None = None
        self._rules = rules
        self._compiled: rego.Engine | None = rego.compile_rules(rules)
        self._document = self._data(self._registry, self._revocation)
        self._engine: rego.Engine | None = rego.with_data(self._compiled, self._document)
        self._probe(self._engine)

    @classmethod
    def load(
        cls, bundle_dir: Path | None = None, *, cloud_trust_domain: str = CLOUD_TRUST_DOMAIN
    ) -> "EmbeddedPoint":
        """Load the bundle in `bundle_dir`, or the one that ships with Plantroom.

        Raises:
            ConfigError: naming the file, and the line where there is one.
        """
        rules = bundle.load(bundle_dir or policies.bundle_dir())
        return cls(rules, cloud_trust_domain=cloud_trust_domain)

    @property
    def generation(self) -> int:
        """Rises with every change of policy, registry or revocations."""
        return self._generation

    @property
    def revision(self) -> str:
        """The revision of the bundle that answers."""
        return self._rules.revision

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every change of `generation`."""
        self._listeners.append(callback)

    def update(
        self,
        *,
        registry: Mapping[str, Any] | None = None,
        revocation: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a new registry, new revocations, or both; what is not given stays.

        `registry` is `{"devices": {spiffe_id: {role, site, device, status}}}`, `revocation` is
        `{"generation": n, "spiffe_ids": {id: …}, "serials": {serial: …}}`.

        Raises:
            ConfigError: when one is not of its form; the old ones stay.
        """
        new_registry = self._registry if registry is None else checked_registry(registry)
        new_revocation = self._revocation if revocation is None else checked_revocation(revocation)
        document = self._data(new_registry, new_revocation)
        if document == self._document:
            return
        engine = rego.with_data(self._compiled, document)
        kept = json.loads(document)  # a copy: what the caller does to its own is not a change
        self._registry, self._revocation = kept["registry"], kept.get("revocation")
        self._adopt(engine, document)

    def replace(self, rules: Bundle) -> None:
        """Take another bundle; registry and revocations stay.

        Raises:
            ConfigError: when it does not compile or answer; the old one stays.
        """
        compiled = rego.compile_rules(rules)
        before, self._rules = self._rules, rules
        try:
            document = self._data(self._registry, self._revocation)
            engine = rego.with_data(compiled, document)
            self._probe(engine)
        except ConfigError:
            self._rules = before
            raise
        self._compiled = compiled
        self._adopt(engine, document)

    def now(self, question: Question) -> Decision:
        """Answer; every fault is a denial with a reason, never an exception."""
        self._count += 1
        decision_id = f"{self._prefix}-{self._count:x}"
        if threading.get_ident() != self._thread:
            return self._denial("wrong-thread", decision_id)
        if self._engine is None:
            return self._denial("closed", decision_id)
        try:
            document = rego.evaluate(self._engine, ENTRY, answer.document_of(question))
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as fault:  # noqa: BLE001 - whatever goes wrong in asking is a denial
            _LOG.warning("decision %s: %s", decision_id, rego.one_line(fault))
            return self._denial("engine-fault", decision_id)
        except BaseException as panic:  # noqa: BLE001 - pyo3's PanicException has no other base
            _LOG.error("decision %s: engine panicked: %s", decision_id, rego.one_line(panic))
            self._engine = rego.with_data(self._compiled, self._document)
            return self._denial("engine-fault", decision_id)
        return answer.read(document, decision_id=decision_id, source=SOURCE, revision=self.revision)

    async def decide(self, question: Question) -> Decision:
        """Answer, as `now` does."""
        return self.now(question)

    async def query(self, path: str, document: object) -> list[object]:
        """Return what there is at a path (`mqtt/authz/allow`) for an input: one value, or none.

        Raises:
            ConfigError: when it cannot be evaluated.
            ValueError, TypeError: when the document is not JSON.
        """
        if self._engine is None:
            raise ConfigError("policy engine is closed")
        return rego.value_of(self._engine, f"data.{path.replace('/', '.')}", document)

    def close(self) -> None:
        """Let the engine go, on the thread that it belongs to; everything after it is denied."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("a policy engine is closed on the thread that made it")
        self._engine = self._compiled = None
        self._listeners.clear()

    def _denial(self, reason: str, decision_id: str) -> Decision:
        return answer.denial(reason, decision_id=decision_id, source=SOURCE, revision=self.revision)

    def _data(self, registry: Mapping[str, Any], revocation: Mapping[str, Any] | None) -> str:
        system = {
            "revision": self._rules.revision,
            "cloud_trust_domain": self._cloud_trust_domain,
        }
        data = {**self._rules.data, "registry": registry, "system": system}
        if revocation is not None:
            data["revocation"] = revocation
        try:
            return json.dumps(data, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"policy data: not JSON ({error})") from error

    def _adopt(self, engine: rego.Engine, document: str) -> None:
        self._engine, self._document = engine, document
        self._generation += 1
        for callback in self._listeners:
            callback()

    def _probe(self, engine: rego.Engine) -> None:
        """Make sure that the bundle answers, and that it does not let nobody in."""
        document = rego.evaluate(engine, ENTRY, answer.document_of(_NOBODY))
        if answer.fault_in(document) or document["allow"]:
            raise ConfigError(
                f"policy bundle: {ENTRY} does not deny an empty question in the agreed form",
                where=f"revision {self._rules.revision}",
                remedy="it must be an object with allow, reason, ttl_s, revision and rule",
            )


def checked_registry(registry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a registry if it has the form that every policy may rely on.

    Raises:
        ConfigError: when it has not.
    """
    devices = registry.get("devices")
    if not isinstance(devices, Mapping):
        raise ConfigError("policy data: registry.devices is not a map")
    for spiffe_id, entry in devices.items():
        if not isinstance(spiffe_id, str) or not isinstance(entry, Mapping):
            raise ConfigError("policy data: a registry entry is not a map", where=str(spiffe_id))
    return registry


def checked_revocation(revocation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return revocations if they have the form that every policy may rely on.

    Raises:
        ConfigError: when they have not.
    """
    generation = revocation.get("generation")
    if not isinstance(generation, int) or isinstance(generation, bool):
        raise ConfigError("policy data: revocation.generation is not a number")
    for key in ("spiffe_ids", "serials"):
        if not isinstance(revocation.get(key), Mapping):
            raise ConfigError(f"policy data: revocation.{key} is not a map")
    return revocation
