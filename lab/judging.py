"""Ask the policy as a broker of this state folder would: same bundle, same registry."""

import dataclasses
from pathlib import Path
from typing import Any

from plantroom.lab import issuers
from plantroom.lab.layout import Layout
from plantroom.lab.tools import Broker
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.policy import Question

NOTHING_REVOKED: dict[str, Any] = {"generation": 0, "spiffe_ids": {}, "serials": {}}
NO_SERIAL = "00"


def explain(
    layout: Layout, question: Question, *, broker: Broker, bundle: Path | None = None
) -> dict[str, Any]:
    """Return the decision with everything that it was made from.

    Without a state folder: the bundle, an empty registry and no revocations.
    """
    point = EmbeddedPoint.load(bundle)
    issuer = issuers.building(layout) if broker == "gateway" else issuers.cloud(layout)
    registry: dict[str, Any] = {"devices": {}}
    revocation = NOTHING_REVOKED
    known = issuer.registry_file.exists()
    if known:
        with issuer.registry() as opened:
            data = opened.policy_data()
            registry, revocation = data["registry"], data["revocation"]
    point.update(registry=registry, revocation=revocation)
    return {
        **dataclasses.asdict(point.now(question)),
        "question": dataclasses.asdict(question),
        "registry_entry": registry["devices"].get(question.spiffe_id),
        "registry": str(issuer.registry_file) if known else None,
        "broker": broker,
    }
