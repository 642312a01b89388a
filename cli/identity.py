"""`plantroom identity entry|token|svid` …: who may have an identity, and what was issued."""

import argparse
import json
from typing import Any

from plantroom.certs.entry import Entry
from plantroom.cli import (
    identity_authority,
    identity_bundle,
    identity_chips,
    identity_clock,
    identity_join,
    output,
)
from plantroom.cli.options import layout_of, spiffe_id, subcommand, subcommands
from plantroom.lab import issuers, svids
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.rfc3339 import format_us


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the nouns and their verbs."""
    nouns = subcommands(parser)
    identity_authority.configure(
        nouns.add_parser("authority", help="the root of a trust domain, and its rotation")
    )
    _configure_entry(nouns.add_parser("entry", help="registration entries"))
    identity_join.configure(nouns)
    identity_chips.configure(nouns)
    identity_clock.configure(nouns)
    identity_bundle.configure(nouns.add_parser("bundle", help="trust bundles"))
    svids = subcommands(nouns.add_parser("svid", help="issued SVIDs"))
    svid = subcommand(svids, "show", "print the newest SVIDs: serial, expiry, renewal", show_svid)
    svid.add_argument("spiffe_id", metavar="SPIFFE_ID", nargs="?", type=spiffe_id)


def _configure_entry(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    create = subcommand(commands, "create", "register a SPIFFE ID, or change its entry", make_entry)
    create.add_argument("spiffe_id", metavar="SPIFFE_ID", type=spiffe_id)
    create.add_argument("--role", help="else the one that the path of the ID says")
    create.add_argument("--parent", metavar="SPIFFE_ID", type=spiffe_id, help="who attests it")
    create.add_argument(
        "--selector",
        metavar="TYPE:VALUE",
        action="append",
        default=[],
        help="what it is known by, all of them: tpm:pub_hash:…, unix:uid:… (may be repeated)",
    )
    create.add_argument("--ttl", metavar="S", type=int, default=3600, help="life of its SVIDs")
    create.add_argument("--dns", metavar="NAME", action="append", default=[])
    create.add_argument("--ip", metavar="ADDRESS", action="append", default=[])
    create.add_argument("--hint", default="", help="what its SVID is for, told with it")
    listing = subcommand(commands, "list", "list entries", list_entries)
    listing.add_argument("--trust-domain", metavar="NAME", default=TRUST_DOMAIN)
    listing.add_argument("--role", help="only of this role")
    listing.add_argument("--parent", metavar="SPIFFE_ID", help="only below this one")
    listing.add_argument(
        "--selector", metavar="TYPE:VALUE", help="only with this selector, among others"
    )
    for name, text, run in (
        ("show", "print one entry", show_entry),
        ("delete", "delete one entry: no SVID any more", delete_entry),
    ):
        command = subcommand(commands, name, text, run)
        command.add_argument("spiffe_id", metavar="SPIFFE_ID", type=spiffe_id)


def _issuer(options: argparse.Namespace, trust_domain: str) -> issuers.Issuer:
    return issuers.responsible(layout_of(options), trust_domain)


def make_entry(options: argparse.Namespace) -> int:
    """Create or change."""
    with _issuer(options, options.spiffe_id.trust_domain).registry() as registry:
        entry = registry.create(
            options.spiffe_id,
            role=options.role,
            parent=str(options.parent or ""),
            selectors=tuple(options.selector),
            ttl_s=options.ttl,
            dns=tuple(options.dns),
            ips=tuple(options.ip),
            hint=options.hint,
        )
    return _print(options, [_plain(entry)])


def list_entries(options: argparse.Namespace) -> int:
    """List."""
    with _issuer(options, options.trust_domain).registry() as registry:
        entries = [_plain(entry) for entry in registry.list() if _asked_for(options, entry)]
    if options.json:
        output.document({"entries": entries})
        return 0
    rows = [(one["spiffe_id"], one["role"], one["ttl_s"], one["created_at"]) for one in entries]
    output.table(("SPIFFE ID", "ROLE", "TTL S", "CREATED"), rows)
    return 0


def _asked_for(options: argparse.Namespace, entry: Entry) -> bool:
    return (
        options.role in {None, entry.role}
        and options.parent in {None, entry.parent}
        and (options.selector is None or options.selector in entry.selectors)
    )


def show_entry(options: argparse.Namespace) -> int:
    """Show."""
    with _issuer(options, options.spiffe_id.trust_domain).registry() as registry:
        return _print(options, [_plain(registry.show(options.spiffe_id))])


def delete_entry(options: argparse.Namespace) -> int:
    """Delete."""
    with _issuer(options, options.spiffe_id.trust_domain).registry() as registry:
        registry.delete(options.spiffe_id)
    output.note(f"{options.spiffe_id} has no entry any more")
    return 0


def show_svid(options: argparse.Namespace) -> int:
    """Print who has which SVID, by whom, until when, and how its renewal goes."""
    return _print(options, svids.shown(layout_of(options), options.spiffe_id))


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "spiffe_id": str(entry.spiffe_id),
        "role": entry.role,
        "parent": entry.parent,
        "selectors": list(entry.selectors),
        "ttl_s": entry.ttl_s,
        "dns": list(entry.dns),
        "ips": list(entry.ips),
        "hint": entry.hint,
        "created_at": format_us(entry.created_us),
    }


def _print(options: argparse.Namespace, values: list[dict[str, Any]]) -> int:
    for value in values:
        if options.json:
            output.document(value)
        else:
            output.line("\n".join(f"{name}: {_text(part)}" for name, part in value.items()))
    return 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
