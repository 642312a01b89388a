"""`plantroom identity ek|golden`: which TPMs are known, and how their devices have to start."""

import argparse
from typing import Any

from plantroom.certs import attest_store
from plantroom.certs.attest_store import Golden
from plantroom.cli import output
from plantroom.cli.options import layout_of, spiffe_id, subcommand, subcommands
from plantroom.lab import issuers
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.errors import IdentityError, UsageError
from plantroom.wire.rfc3339 import format_us

_PCR = "hex of a register: NUMBER=HEX (may be repeated)"


def configure(nouns: Any) -> None:
    """Add both nouns and their verbs."""
    eks = subcommands(nouns.add_parser("ek", help="endorsement keys of TPMs without a known maker"))
    allow = subcommand(eks, "allow", "accept a TPM whoever made it", allow_ek)
    allow.add_argument("fingerprint", metavar="FINGERPRINT")
    allow.add_argument("--note", default="", help="which device that is, for people")
    forget = subcommand(eks, "forget", "accept it no longer", forget_ek)
    forget.add_argument("fingerprint", metavar="FINGERPRINT")
    golden = subcommands(nouns.add_parser("golden", help="registers that a device may start with"))
    accept = subcommand(golden, "accept", "add what a device has shown last", accept_golden)
    accept.add_argument("spiffe_id", metavar="SPIFFE_ID", type=spiffe_id)
    add = subcommand(golden, "add", "add a set to a name that entries use", add_golden)
    add.add_argument("name", metavar="NAME", help="for entries with the selector tpm:golden:NAME")
    add.add_argument("--pcr", metavar="N=HEX", action="append", required=True, help=_PCR)
    delete = subcommand(golden, "delete", "delete a set, or all of a name", delete_golden)
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("digest", metavar="DIGEST", nargs="?", default="")
    for command in (
        allow,
        forget,
        add,
        delete,
        subcommand(eks, "list", "list those that are accepted", list_eks),
        subcommand(golden, "list", "list every set", list_golden),
    ):
        command.add_argument("--trust-domain", metavar="NAME", default=TRUST_DOMAIN)


def _issuer(options: argparse.Namespace, trust_domain: str = "") -> issuers.Issuer:
    return issuers.responsible(layout_of(options), trust_domain or options.trust_domain)


def allow_ek(options: argparse.Namespace) -> int:
    """Allow."""
    found = attest_store.fingerprint_of(options.fingerprint)
    with _issuer(options).attest_store() as store:
        store.ek_allow(found, note=options.note)
    output.note(f"TPM {found} is accepted")
    return 0


def forget_ek(options: argparse.Namespace) -> int:
    """Forget.

    Raises:
        IdentityError: when it was not allowed.
    """
    found = attest_store.fingerprint_of(options.fingerprint)
    with _issuer(options).attest_store() as store:
        if not store.ek_forget(found):
            raise IdentityError("not on the list", reason="ek-unknown", where=found)
    output.note(f"TPM {found} is accepted no longer")
    return 0


def list_eks(options: argparse.Namespace) -> int:
    """List."""
    with _issuer(options).attest_store() as store:
        found = store.eks()
    if options.json:
        names = ("fingerprint", "note", "since")
        rows = [(one, note, format_us(at_us)) for one, note, at_us in found]
        output.document({"eks": [dict(zip(names, row, strict=True)) for row in rows]})
        return 0
    output.table(
        ("FINGERPRINT", "SINCE", "NOTE"),
        ((one, format_us(at_us), note) for one, note, at_us in found),
    )
    return 0


def accept_golden(options: argparse.Namespace) -> int:
    """Accept what was shown last."""
    with _issuer(options, options.spiffe_id.trust_domain).attest_store() as store:
        return _print(options, store.accept_quoted(options.spiffe_id))


def add_golden(options: argparse.Namespace) -> int:
    """Add a set of one's own.

    Raises:
        UsageError: when a register is not one.
    """
    pcrs = dict(_pcr(text) for text in options.pcr)
    with _issuer(options).attest_store() as store:
        return _print(options, store.golden_add(options.name, pcrs))


def _pcr(text: str) -> tuple[int, bytes]:
    number, _, value = text.partition("=")
    if not number.isdecimal() or int(number) > 23 or len(value) != 64:
        raise UsageError("not a register", where=text[:80], remedy="write 7=, then 64 hex digits")
    try:
        return int(number), bytes.fromhex(value)
    except ValueError as error:
        raise UsageError("not a register", where=text[:80], remedy="write hex digits") from error


def delete_golden(options: argparse.Namespace) -> int:
    """Delete.

    Raises:
        IdentityError: when there is none.
    """
    with _issuer(options).attest_store() as store:
        count = store.golden_delete(options.name, options.digest)
    if not count:
        raise IdentityError("no such golden set", reason="no-golden", where=options.name)
    output.note(f"{count} deleted")
    return 0


def list_golden(options: argparse.Namespace) -> int:
    """List."""
    with _issuer(options).attest_store() as store:
        found = store.goldens()
    if options.json:
        output.document({"golden": [_plain(one) for one in found]})
        return 0
    output.table(
        ("NAME", "DIGEST", "REGISTERS", "SINCE"),
        (
            (one.name, one.digest, ",".join(map(str, one.pcrs)), format_us(one.at_us))
            for one in found
        ),
    )
    return 0


def _print(options: argparse.Namespace, golden: Golden) -> int:
    if options.json:
        output.document(_plain(golden))
    else:
        output.note(f"{golden.name} may start with {golden.digest}")
    return 0


def _plain(golden: Golden) -> dict[str, object]:
    return {
        "name": golden.name,
        "digest": golden.digest,
        "pcrs": {str(pcr): value.hex() for pcr, value in golden.pcrs.items()},
        "since": format_us(golden.at_us),
    }
