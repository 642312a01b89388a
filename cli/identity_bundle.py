"""`plantroom identity bundle show|list|set`: whose roots are trusted here."""

import argparse
from pathlib import Path

from plantroom.certs import atomic, bundle, pem
from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import issuers
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.errors import UsageError
from plantroom.wire.identity import TrustBundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the three."""
    commands = subcommands(parser)
    show = subcommand(commands, "show", "print the roots of a trust domain", show_bundle)
    show.add_argument("--trust-domain", metavar="NAME", default=TRUST_DOMAIN)
    show.add_argument("--format", choices=("pem", "spiffe", "sha256"), default="pem")
    listing = subcommand(commands, "list", "list the bundles that are kept", list_bundles)
    keep = subcommand(commands, "set", "trust another domain by this bundle", set_bundle)
    keep.add_argument("file", metavar="FILE", type=Path, help="a SPIFFE bundle, or PEM")
    keep.add_argument("--trust-domain", metavar="NAME", required=True)
    keep.add_argument("--force", action="store_true", help="also an older one than is known")
    for command in (show, listing, keep):
        command.add_argument(
            "--at",
            metavar="NAME",
            default=TRUST_DOMAIN,
            help="whose view: the trust domain of the gateway or cloud that keeps it",
        )


def show_bundle(options: argparse.Namespace) -> int:
    """Print roots, as PEM or as a SPIFFE bundle; or the hash that pins them for a new device."""
    if options.format == "sha256":
        issuer = issuers.responsible(layout_of(options), options.trust_domain)
        output.line(issuer.authority().root_sha256())
        return 0
    found = _known(options).get(options.trust_domain)
    if found is None:  # of another issuer in this state folder
        issuer = issuers.responsible(layout_of(options), options.trust_domain)
        found = issuer.bundle()
    if options.json or options.format == "spiffe":
        output.document(bundle.to_jwks(found))
    else:
        output.text(pem.bundle_pem(found.roots_der).decode())
    return 0


def list_bundles(options: argparse.Namespace) -> int:
    """List."""
    found = sorted(_known(options).items())
    if options.json:
        output.document(
            {
                "bundles": [
                    {"trust_domain": name, "sequence": part.sequence, "roots": len(part.roots_der)}
                    for name, part in found
                ]
            }
        )
        return 0
    rows = [(name, part.sequence, len(part.roots_der)) for name, part in found]
    output.table(("TRUST DOMAIN", "SEQUENCE", "ROOTS"), rows)
    return 0


def set_bundle(options: argparse.Namespace) -> int:
    """Keep a bundle that came by hand; whatever runs takes it in at once."""
    data = atomic.read(options.file, bytes_max=bundle.BUNDLE_BYTES_MAX)
    if data is None:
        raise UsageError("there is no such file", where=str(options.file))
    told = bundle.from_file(options.trust_domain, data).get(options.trust_domain)
    if told is None:
        raise UsageError(
            f"the file has no bundle of {options.trust_domain}", where=str(options.file)
        )
    issuer = issuers.responsible(layout_of(options), options.at)
    if issuer.trust_domain == options.trust_domain:
        raise UsageError("its own roots are those of its authority", where=options.trust_domain)
    with issuer.trust() as trust:
        changed = trust.adopt_bundle(told, force=options.force)
    if options.json:
        output.document(
            {
                "trust_domain": options.trust_domain,
                "sequence": told.sequence,
                "roots": len(told.roots_der),
                "changed": changed,
            }
        )
    else:
        state = "trusted now" if changed else "known already"
        output.note(f"{options.trust_domain}: {len(told.roots_der)} roots, {state}")
    return 0


def _known(options: argparse.Namespace) -> dict[str, TrustBundle]:
    issuer = issuers.responsible(layout_of(options), options.at)
    own = issuer.bundle()
    with issuer.trust() as trust:
        return {**trust.bundles(), own.trust_domain: own}
