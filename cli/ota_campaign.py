"""`plantroom ota campaign|releases|revoke|audit`: what the cloud does with releases."""

import argparse
import asyncio
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import calling
from plantroom.lab.calling import Asked
from plantroom.lab.ota_publish import OTA_ID
from plantroom.wire.errors import UsageError

TIMEOUT_S = 15.0
_FILE_BYTES_MAX = 1 << 20


def configure(commands: Any) -> None:
    """Add the words beside those of an author."""
    campaign = subcommands(commands.add_parser("campaign", help="roll a release out in groups"))
    create = subcommand(campaign, "create", "begin a campaign", create_)
    create.add_argument("file", metavar="FILE", help="its plan, in TOML")
    subcommand(campaign, "ls", "list campaigns", list_)
    show = subcommand(campaign, "show", "show a campaign and its devices", show_)
    show.add_argument("name", metavar="NAME")
    for word, text in (
        ("pause", "start nobody any more; who has begun goes on"),
        ("resume", "go on; failures so far are forgiven"),
        ("abort", "end it; who is not past recall is told to stop"),
    ):
        order = subcommand(campaign, word, text, order_)
        order.add_argument("name", metavar="NAME")
        order.set_defaults(word=word)
    subcommand(commands, "releases", "list the releases that the cloud knows", releases_)
    revoke = subcommand(commands, "revoke", "have no device begin a release any more", revoke_)
    revoke.add_argument("release", metavar="RELEASE", help="the manifest's digest, in hex")
    revoke.add_argument("--site", help="at this building alone")
    audit = subcommand(commands, "audit", "what happened: registered, downloads, verdicts", audit_)
    audit.add_argument("--limit", type=int, default=50, metavar="N", help="lines (50)")


def create_(options: argparse.Namespace) -> int:
    """Begin a campaign."""
    return _campaigns(options, [_ask(options, "campaign_create", read_plan(Path(options.file)))])


def read_plan(path: Path) -> Mapping[str, Any]:
    """Read a plan; what is in it is for the cloud to judge.

    Raises:
        UsageError: when the file cannot be read, or is not TOML.
    """
    remedy = "see docs/how-to/update-firmware.md"
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            raise UsageError("a plan has at most 1 MiB", where=str(path), remedy=remedy)
        return tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(
            f"plan cannot be read: {error.strerror}", where=str(path), remedy=remedy
        ) from error
    except ValueError as error:
        raise UsageError(f"plan is not TOML: {error}", where=str(path), remedy=remedy) from error


def list_(options: argparse.Namespace) -> int:
    """List campaigns."""
    return _campaigns(options, _ask(options, "campaign_list", {})["campaigns"])


def _campaigns(options: argparse.Namespace, rows: list[Mapping[str, Any]]) -> int:
    if options.json:
        output.document(rows)
    else:
        head = ("CAMPAIGN", "STANDING", "GROUP", "DEVICES", "STATES", "WHY")
        output.table(head, (_campaign(row) for row in rows))
    return 0


def _campaign(row: Mapping[str, Any]) -> tuple[object, ...]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(row["states"].items()))
    group = f"{row['group']} of {len(row['groups'])}"
    return row["name"], row["standing"], group, row["devices"], states, row["why"]


def show_(options: argparse.Namespace) -> int:
    """Show one campaign."""
    shown = _ask(options, "campaign_show", {"name": options.name})
    if options.json:
        output.document(shown)
        return 0
    _campaigns(options, [shown])
    output.line()
    rows = (
        (one["site"], one["device"], one["group"], one["state"], one["code"], _progress(one))
        for one in shown["members"]
    )
    output.table(("SITE", "DEVICE", "GROUP", "STATE", "CODE", "CHUNKS"), rows)
    return 0


def _progress(member: Mapping[str, Any]) -> str:
    return f"{member['chunks_done']}/{member['chunks']}" if member["chunks"] else ""


def order_(options: argparse.Namespace) -> int:
    """Pause, resume or abort."""
    told = _ask(options, f"campaign_{options.word}", {"name": options.name})
    return _campaigns(options, [told])


def releases_(options: argparse.Namespace) -> int:
    """List releases."""
    rows = _ask(options, "releases", {})["releases"]
    if options.json:
        output.document(rows)
        return 0
    head = ("SITE", "CLASS", "VERSION", "SEQUENCE", "BYTES", "ROLLOUT", "RELEASE")
    output.table(
        head,
        (
            (
                *(row["site"], row["class"], row["version"], row["sequence"], row["size"]),
                "revoked" if row["revoked"] else row["rollout"] or "superseded",
                row["release"],
            )
            for row in rows
        ),
    )
    return 0


def revoke_(options: argparse.Namespace) -> int:
    """Revoke a release."""
    data = {"release": options.release} | ({"site": options.site} if options.site else {})
    told = _ask(options, "revoke_release", data)
    if options.json:
        output.document(told)
    else:
        output.line(f"revoked at {', '.join(told['sites'])}")
    return 0


def audit_(options: argparse.Namespace) -> int:
    """Print the audit, newest first."""
    rows = _ask(options, "update_audit", {"limit": options.limit})["audit"]
    if options.json:
        output.document(rows)
        return 0
    names = ("at", "event", "site", "device", "release", "text")
    cells = ((*(str(row[name])[:26] for name in names[:-1]), row["text"]) for row in rows)
    output.table([name.upper() for name in names], cells)
    return 0


def _ask(options: argparse.Namespace, capability: str, data: Mapping[str, Any]) -> Any:
    asked = Asked(target=OTA_ID, capability=capability, data=dict(data), timeout_s=TIMEOUT_S)
    return asyncio.run(calling.call(layout_of(options), asked, broker="cloud"))
