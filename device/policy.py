"""Who may call this device: what the gateway's policy said, kept for a while.

The gateway's broker has checked a call before it forwards it; this is the device's own check. A
question that is not in the cache goes to the gateway's policy port (OPA's REST data API) over
mutual TLS; where that does not answer, the call is refused. The gateway itself is not asked about:
it is who would answer.
"""

import json
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plantroom.wire.errors import PlantroomError, SpiffeIdError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import GATEWAY

TTL_S_MAX = 300.0
DENIAL_TTL_S_MAX = 15.0
ENTRIES_MAX = 256
ANSWER_BYTES_MAX = 16 * 1024
HOLD_OFF_S = 5.0  # nobody waits for a gateway that has just not answered
PATH = "/v1/data/mqtt/authz/decision"

Ask = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was said about one caller: empty `refusal` allows."""

    refusal: str
    ttl_s: float


class CallPolicy:
    """Answers from the cache, else asks; one thread uses it."""

    def __init__(
        self,
        ask: Ask,
        *,
        trust_domain: str,
        cloud_trust_domain: str,
        ttl_s_max: float,
        clock_s: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._domains = {"trust_domain": trust_domain, "cloud_trust_domain": cloud_trust_domain}
        self._ttl_s_max = min(ttl_s_max, TTL_S_MAX)
        self._clock_s = clock_s
        self._kept: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        self._silent_until_s = float("-inf")
        self.asked_total = 0
        self.refused_total = 0

    def refusal(self, topic: str, caller: str) -> str:
        """Return why this caller may not make this call, empty if it may."""
        if caller == GATEWAY:
            return ""
        found = self._known(topic, caller)
        if found:
            self.refused_total += 1
        return found

    def _known(self, topic: str, caller: str) -> str:
        now_s = self._clock_s()
        until_s, refusal = self._kept.get((topic, caller), (now_s, ""))
        if now_s < until_s:
            self._kept.move_to_end((topic, caller))
            return refusal
        if now_s < self._silent_until_s:
            return "policy-unreachable"
        try:
            question = self._question(topic, caller)
        except SpiffeIdError:
            return "bad-identity"
        self.asked_total += 1
        try:
            verdict = read(self._ask(question))
        except (OSError, ValueError, PlantroomError):
            self._silent_until_s = self._clock_s() + HOLD_OFF_S
            return "policy-unreachable"
        self._keep((topic, caller), verdict)
        return verdict.refusal

    def _keep(self, key: tuple[str, str], verdict: Verdict) -> None:
        most_s = min(self._ttl_s_max, DENIAL_TTL_S_MAX if verdict.refusal else TTL_S_MAX)
        ttl_s = min(verdict.ttl_s, most_s)
        if ttl_s > 0:
            self._kept[key] = (self._clock_s() + ttl_s, verdict.refusal)
            self._kept.move_to_end(key)
            if len(self._kept) > ENTRIES_MAX:
                self._kept.popitem(last=False)

    def _question(self, topic: str, caller: str) -> dict[str, Any]:
        """Make the input document; see docs/reference/policy-input.md."""
        return {
            "spiffe_id": str(SpiffeId.of_level(caller, **self._domains)),
            "cert_serial": "",
            "client_id": "",
            "action": "call",
            "topic": topic,
            "qos": 1,
            "retain": False,
        }


def read(answer: Any) -> Verdict:
    """Read a data API's answer; only one that is whole allows."""
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, dict):
        return Verdict(refusal="undefined-answer", ttl_s=0.0)
    allow, reason, ttl_s = (result.get(key) for key in ("allow", "reason", "ttl_s"))
    is_number = isinstance(ttl_s, int | float) and not isinstance(ttl_s, bool)
    if not isinstance(reason, str) or not is_number or (allow is True) != (reason == "ok"):
        return Verdict(refusal="malformed-answer", ttl_s=0.0)
    life_s = max(0.0, min(float(ttl_s or 0), TTL_S_MAX))  # NaN is 0 here too
    return Verdict(refusal="" if allow is True else reason or "denied", ttl_s=life_s)


def ask_gateway(
    address: tuple[str, int],
    identity: Callable[[], Identity | None],
    context: Callable[[Identity], ssl.SSLContext],
    *,
    timeout_s: float,
) -> Ask:
    """Make what asks the gateway's policy port; every wait in it ends after `timeout_s`."""

    def ask(question: dict[str, Any]) -> Any:
        import http.client  # noqa: PLC0415 -- costs memory that an agent without callers saves

        current = identity()
        if current is None:
            raise OSError("no identity yet")
        connection = http.client.HTTPSConnection(
            *address, timeout=timeout_s, context=context(current)
        )
        try:
            body = json.dumps({"input": question})
            connection.request("POST", PATH, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read(ANSWER_BYTES_MAX + 1)
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {error}") from error
        finally:
            connection.close()
        if answer.status != 200 or len(said) > ANSWER_BYTES_MAX:
            raise ValueError(f"answer {answer.status} of {len(said)} bytes")
        return json.loads(said)

    return ask
