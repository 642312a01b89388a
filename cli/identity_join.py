"""`plantroom identity token|pending|admit|fingerprint`: how a new device gets its identity.

Either order: a token first, which the device is given; or the device first, whose fingerprint is
admitted.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from plantroom.certs import attest_store, join_code
from plantroom.certs.attestation import PUB_HASH
from plantroom.certs.registry import TOKEN_TTL_S
from plantroom.cli import output, qr
from plantroom.cli.options import layout_of, spiffe_id, subcommand, subcommands
from plantroom.lab import issuers, joining
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.errors import UsageError
from plantroom.wire.rfc3339 import format_us


def configure(nouns: Any) -> None:
    """Add the four."""
    token = subcommands(nouns.add_parser("token", help="join tokens"))
    create = subcommand(token, "create", "make a single-use token for one SPIFFE ID", make_token)
    create.add_argument("spiffe_id", metavar="SPIFFE_ID", type=spiffe_id)
    create.add_argument(
        "--address", metavar="HOST:PORT", default="", help="enrolment port, as the device sees it"
    )
    shown = create.add_mutually_exclusive_group()
    shown.add_argument(
        "--code", action="store_true", help="print token, bundle's hash and address as one line"
    )
    shown.add_argument("--qr", action="store_true", help="that line as a QR code, too")
    waiting = subcommand(nouns, "pending", "list who has asked and is not known", list_pending)
    waiting.add_argument("--trust-domain", metavar="NAME", default=TRUST_DOMAIN)
    admit = subcommand(nouns, "admit", "let the key with this fingerprint join", admit_key)
    admit.add_argument("fingerprint", metavar="FINGERPRINT", nargs="+")
    admit.add_argument("--spiffe-id", metavar="SPIFFE_ID", type=spiffe_id, required=True)
    admit.add_argument("--role", help="of a new entry; else the one that the ID's path says")
    own = subcommand(nouns, "fingerprint", "print what an operator has to admit", fingerprint)
    own.add_argument("config", metavar="CONFIG", type=Path, help="the sensor's configuration")
    own.add_argument("--qr", action="store_true", help="the command to admit it as a QR code, too")


def make_token(options: argparse.Namespace) -> int:
    """Make a token; it is shown once and kept only as a hash."""
    layout, wanted = layout_of(options), options.spiffe_id
    with issuers.responsible(layout, wanted.trust_domain).registry() as registry:
        token = registry.token_create(wanted)
    code = joining.join_code(layout, wanted, token, options.address)
    line = join_code.build(code)
    if options.json:
        output.document(
            {
                "spiffe_id": str(wanted),
                "token": token,
                "bundle_sha256": code.root_sha256,
                "address": code.address,
                "server": str(code.server),
                "valid_s": TOKEN_TTL_S,
                "join_code": line,
            }
        )
    elif options.code:
        output.line(line)
    else:
        output.line(token)
        if options.qr or sys.stdout.isatty():
            output.text(f"{line}\n{qr.text_of(line)}")
            output.note(f"good for one device within {TOKEN_TTL_S // 60} minutes")
    return 0


def list_pending(options: argparse.Namespace) -> int:
    """List."""
    issuer = issuers.responsible(layout_of(options), options.trust_domain)
    with issuer.attest_store() as store:
        waiting = store.waiting()
    if options.json:
        names = ("fingerprint", "kind", "claim", "peer")
        found = [
            {
                **{name: getattr(one, name) for name in names},
                "since": format_us(one.since_us),
                "last": format_us(one.last_us),
            }
            for one in waiting
        ]
        output.document({"pending": found})
        return 0
    output.table(
        ("FINGERPRINT", "OF", "CALLS ITSELF", "FROM", "LAST ASKED"),
        (
            (one.fingerprint, one.kind, one.claim, one.peer, format_us(one.last_us))
            for one in waiting
        ),
    )
    return 0


def admit_key(options: argparse.Namespace) -> int:
    """Admit a key, or give a chip its entry."""
    text = "".join(options.fingerprint)
    issuer = issuers.responsible(layout_of(options), options.spiffe_id.trust_domain)
    if text.startswith(PUB_HASH):
        raise UsageError(
            "that is a chip's selector",
            where=text[:40],
            remedy=f"plantroom identity entry create {options.spiffe_id} --selector {text}",
        )
    found = attest_store.fingerprint_of(text)
    what = joining.admit(issuer, found, options.spiffe_id, options.role)
    if options.json:
        output.document({"fingerprint": found, "of": what, "spiffe_id": str(options.spiffe_id)})
    else:
        output.note(f"{what} {found} may join as {options.spiffe_id}")
    return 0


def fingerprint(options: argparse.Namespace) -> int:
    """Print the fingerprint, and how it is admitted."""
    found, command = joining.shown_by(options.config)
    if options.json:
        output.document({"fingerprint": found, "admit": command})
        return 0
    output.line(found)
    if options.qr or sys.stdout.isatty():
        output.text(f"{command}\n{qr.text_of(command)}")
    return 0
