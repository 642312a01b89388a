"""Ask the policy as a broker of this state folder would, and look at what it has decided."""

import dataclasses
import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from plantroom import policies
from plantroom.lab import issuers
from plantroom.lab.issuers import Issuer
from plantroom.lab.layout import Layout
from plantroom.lab.tools import Broker
from plantroom.policies import bundle, decision_log, desk, nearest, replay
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.policies.nearest import Known
from plantroom.wire.errors import UnreachableError, UsageError
from plantroom.wire.policy import Question

NOTHING_REVOKED: dict[str, Any] = {"generation": 0, "spiffe_ids": {}, "serials": {}}
NO_SERIAL = "00"
LINES_MAX = 1_000_000


def explain(
    layout: Layout, question: Question, *, broker: Broker, bundle: Path | None = None
) -> dict[str, Any]:
    """Return the decision with everything that it was made from.

    Without a state folder: the bundle, an empty registry and no revocations.
    """
    known, issuer = _known(layout, broker)
    rules = load(bundle)
    with closing(EmbeddedPoint(rules)) as point:
        point.update(registry=known.registry, revocation=known.revocation)
        decision = point.now(question)
        near = nearest.find(point, question, known, rules.data.get("acl", {}))
    return {
        **dataclasses.asdict(decision),
        "nearest": None if near is None else dataclasses.asdict(near),
        "question": dataclasses.asdict(question),
        "registry_entry": known.registry["devices"].get(question.spiffe_id),
        "registry": str(issuer.registry_file) if issuer.registry_file.exists() else None,
        "recorded": _recorded(layout, question, broker),
        "broker": broker,
    }


def load(folder: Path | None) -> bundle.Bundle:
    """Load a bundle, or the one that ships."""
    return bundle.load(folder or policies.bundle_dir())


def record(layout: Layout, broker: Broker) -> Iterator[dict[str, Any]]:
    """Give what a broker of this state folder has decided, oldest first.

    Raises:
        UnreachableError: when nothing is on record.
    """
    folder = (layout.gateway if broker == "gateway" else layout.cloud) / desk.FOLDER
    if not (folder / decision_log.FILE_NAME).exists():
        raise UnreachableError(
            "no decisions are on record",
            where=str(folder),
            remedy="start a building with `plantroom up`, or give its folder with --state",
        )
    return decision_log.events(folder)


def last(
    events: Iterable[dict[str, Any]], *, who: str | None, denied: bool, limit: int
) -> list[dict[str, Any]]:
    """Return the newest events that fit, oldest first."""
    wanted = (
        event
        for event in events
        if (who is None or event["input"].get("spiffe_id") == who)
        and not (denied and event.get("result", {}).get("allow") is True)
    )
    return list(deque(wanted, maxlen=limit))


def diff(
    layout: Layout, old: Path, new: Path, *, broker: Broker, questions: Path | None
) -> replay.Comparison:
    """Ask what is on record (or in a file) of two bundles, with the registry of this folder.

    Raises:
        UnreachableError: when there is nothing to ask.
    """
    known, _ = _known(layout, broker)
    inputs = (
        _from_file(questions)
        if questions is not None
        else (event["input"] for event in record(layout, broker))
    )
    return replay.compare(
        load(old), load(new), inputs, registry=known.registry, revocation=known.revocation
    )


def _known(layout: Layout, broker: Broker) -> tuple[Known, Issuer]:
    issuer = issuers.building(layout) if broker == "gateway" else issuers.cloud(layout)
    if not issuer.registry_file.exists():
        return Known(registry={"devices": {}}, revocation=NOTHING_REVOKED), issuer
    with issuer.registry() as opened:
        data = opened.policy_data()
    return Known(registry=data["registry"], revocation=data["revocation"]), issuer


def _recorded(layout: Layout, question: Question, broker: Broker) -> dict[str, Any] | None:
    """Return when this very question was decided last, and how."""
    try:
        asked = dataclasses.asdict(question)
        fields = ("spiffe_id", "client_id", "action", "topic", "qos", "retain")
        found = [
            event
            for event in record(layout, broker)
            if all(event["input"].get(name) == asked[name] for name in fields)
        ]
    except UnreachableError:
        return None
    if not found:
        return None
    return {
        "at": found[-1].get("timestamp"),
        "decision_id": found[-1].get("decision_id"),
        "allow": found[-1].get("result", {}).get("allow"),
    }


def _from_file(path: Path) -> Iterator[dict[str, Any]]:
    """Give the inputs in a file of JSON lines: decision log events, or input documents."""
    try:
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines()[:LINES_MAX]:
            if line.strip():
                value = json.loads(line)
                yield value.get("input", value)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"questions cannot be read ({error})",
            where=str(path),
            remedy="give JSON lines: a decision log, or one input document a line",
        ) from error
