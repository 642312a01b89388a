"""OPA's REST data API, answered by the gateway's own decision point over mutual TLS.

Any OPA client can be pointed at it: `POST /v1/data/<path>` with `{"input": …}`, `GET` with
`?input=`, `GET /health`, `GET /v1/policies`. What is asked through `mqtt/authz/decision` goes
through the cache and the record like the broker's own questions. Who may ask about whom is policy
too (`mqtt.asking`); registry and revocations themselves are given to nobody.
"""

import json
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from plantroom.certs.https import Request, RequestRefusedError, Response
from plantroom.certs.svid import verify_peer
from plantroom.policies.desk import PolicyDesk
from plantroom.wire.errors import ConfigError, IdentityError
from plantroom.wire.identity import IdentitySource, Principal
from plantroom.wire.policy import Decision, Question

DECISION = "mqtt/authz/decision"
ALLOW = "mqtt/authz/allow"
_ASKING = "mqtt/asking/allow"
_PATH = re.compile(r"(mqtt|acl)(/[A-Za-z_][A-Za-z0-9_]*)*")
_FIELDS: dict[str, type] = {
    "spiffe_id": str,
    "cert_serial": str,
    "client_id": str,
    "action": str,
    "topic": str,
    "qos": int,
    "retain": bool,
}


class PolicyApi:
    """Answers one request; `source` says whose certificates are believed."""

    def __init__(self, desk: PolicyDesk, source: IdentitySource) -> None:
        self._desk, self._source = desk, source

    async def answer(self, request: Request) -> Response:
        """Answer.

        Raises:
            RequestRefusedError: with OPA's status and the reason.
        """
        try:
            asker = verify_peer(request.connection, self._source.current())
        except IdentityError as error:
            raise RequestRefusedError(401, error.reason, what=str(error)) from error
        url = urlsplit(request.path)
        path = unquote(url.path).strip("/")
        if request.method == "GET" and path == "health":
            return _json(200, {})
        if request.method == "GET" and path == "v1/policies":
            return _json(200, {"result": []})  # what decides is nobody's business but its owner's
        if path != "v1/data" and not path.startswith("v1/data/"):
            raise RequestRefusedError(404, "resource_not_found", where=str(asker.spiffe_id))
        document = _input(request, url.query)
        return await self._data(path.removeprefix("v1/data").strip("/"), document, asker)

    async def _data(self, path: str, document: object, asker: Principal) -> Response:
        await self._check_asker(path, document, asker)
        question = _question(document)
        if path in {DECISION, ALLOW} and question is not None:
            decision = await self._desk.decisions.decide(question)
            result = _document(decision) if path == DECISION else decision.allow
            return _json(200, {"decision_id": decision.decision_id, "result": result})
        try:
            values = await self._desk.point.query(path, document)
        except (ConfigError, ValueError, TypeError) as error:
            raise RequestRefusedError(500, "internal_error", what=str(error)) from error
        said: dict[str, object] = {"decision_id": secrets.token_hex(16)}
        return _json(200, said | ({"result": values[0]} if values else {}))

    async def _check_asker(self, path: str, document: object, asker: Principal) -> None:
        """Let nobody ask what is not theirs; a question that cannot be judged is refused."""
        who = str(asker.spiffe_id)
        about = {
            "asker": {"spiffe_id": who, "cert_serial": asker.serial},
            "question": document,
        }
        try:
            allowed = await self._desk.point.query(_ASKING, about)
        except (ConfigError, ValueError, TypeError) as error:
            raise RequestRefusedError(503, "no-decision", what=str(error), where=who) from error
        if allowed != [True] or not _PATH.fullmatch(path):
            raise RequestRefusedError(403, "unauthorized", where=who)


def _input(request: Request, query: str) -> object:
    """Return the input of a request, None where it has none."""
    try:
        if request.method == "GET":
            given = parse_qs(query, max_num_fields=10).get("input")
            return json.loads(given[0]) if given else None
        if request.method != "POST":
            raise RequestRefusedError(405, "method_not_allowed")
        body = json.loads(request.body) if request.body else {}
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError(400, "invalid_parameter", what=str(error)) from error
    if not isinstance(body, dict):
        raise RequestRefusedError(400, "invalid_parameter", what="body is not an object")
    return body.get("input")


def _question(document: object) -> Question | None:
    """Return the question that an input is; None if it is none, and only Rego may judge it."""
    if not isinstance(document, dict) or document.keys() != _FIELDS.keys():
        return None
    if any(type(document[name]) is not kind for name, kind in _FIELDS.items()):
        return None
    fields: Any = document
    return Question(**fields)


def _document(decision: Decision) -> dict[str, object]:
    return {
        "allow": decision.allow,
        "reason": decision.reason,
        "ttl_s": decision.ttl_s,
        "revision": decision.revision,
        "rule": decision.rule,
    }


def _json(status: int, value: object) -> Response:
    return Response(status=status, body=json.dumps(value).encode())
