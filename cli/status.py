"""`plantroom status`: links, queues, devices, SVIDs, policy and ledger at a glance."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, runs
from plantroom.lab.status import status


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing but the global options."""
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    found = status(layout_of(options))
    if options.json:
        output.document(found)
        return 0
    output.table(("PART", "STATE"), _parts(found))
    output.line()
    states = {None: "unknown", True: "online", False: "offline"}
    output.table(
        ("DEVICE", "LINK", "STATUS", "SVID EXPIRES", "PID"),
        (
            (
                one["device"],
                states[one["online"]],
                one["status"],
                one["svid"]["not_after"] if one["svid"] else "",
                found["pids"].get(one["device"]),
            )
            for one in found["devices"]
        ),
    )
    return 0


def _parts(found: dict[str, Any]) -> list[tuple[str, str]]:
    books = found["ledger"]
    ledger = {
        True: f"{books.get('books')} books close, {books.get('stored')} readings stored, "
        f"{books.get('queued')} queued, {books.get('at_sensors')} at sensors",
        False: f"{books.get('faults')} faults: plantroom ledger verify",
        None: books.get("error"),
    }[books["closes"]]
    return [
        ("building", "ready" if found["ready"] else "starting"),
        ("gateway", _running(found, "gateway")),
        ("cloud", _running(found, "cloud")),
        ("link", _text(found["link"])),
        ("queue", _text(found["queue"])),
        ("queue bytes", _text(found["queue_bytes"])),
        ("drain", _text(found["drain"])),
        *((name, _text(found[name])) for name in ("evicted", "quarantined") if found[name]),
        *(("set aside", name) for name in found["set_aside"] or ()),
        *(
            (f"{name}'s time", f"{ahead_s} s ahead of the clock: plantroom identity clock")
            for name, ahead_s in found["clock_ahead_s"].items()
        ),
        ("policy", _text(found["policy"])),
        *((f"svid {name}", _text(svid)) for name, svid in found["svids"].items()),
        ("ledger", str(ledger)),
    ]


def _running(found: dict[str, Any], name: str) -> str:
    pid = found["pids"].get(name)
    if not pid:
        return "is being started again"
    said = found[name]
    if said is None:
        return f"pid {pid}, does not answer"
    return ", ".join([f"pid {pid}", "answers", *_troubles(said)])


def _troubles(said: dict[str, Any]) -> Iterator[str]:
    """Say why the gateway takes no readings, or the cloud stores none, in their own words."""
    for reason in said.get("refusing_because", ()):
        yield f"publishes are refused: {reason}"
    if trouble := said.get("ingest", {}).get("trouble"):
        yield f"nothing is stored: {trouble}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items() if part != "")
    return value if isinstance(value, str) else json.dumps(value)
