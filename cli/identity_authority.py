"""`plantroom identity authority …`: the root of a trust domain, and how it is changed."""

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plantroom.certs import atomic
from plantroom.certs.authority_hsm import Place
from plantroom.certs.authority_rotation import RootStatus, Rotation
from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import identities, issuers
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.errors import UsageError
from plantroom.wire.rfc3339 import format_us

_FILE_BYTES_MAX = 256 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the steps, in their order."""
    commands = subcommands(parser)
    for name, text, run in (
        ("show", "print the roots and how far each has come", show),
        ("request", "make a key and print the CSR for an upstream CA", request),
        ("prepare", "publish a new root, which signs nothing yet", prepare),
        ("activate", "let the prepared root sign from now on", activate),
        ("retire", "drop the old root, or a prepared one", retire),
    ):
        command = subcommand(commands, name, text, run)
        command.add_argument("--trust-domain", metavar="NAME", default=TRUST_DOMAIN)
        if name in {"request", "prepare"}:
            _add_hsm(command)
        if name == "prepare":
            command.add_argument(
                "--chain",
                metavar="FILE",
                type=Path,
                help="what an upstream CA signed: PEM, ours first, its root last",
            )
            command.add_argument(
                "--key", metavar="FILE", type=Path, help="the chain's key, if not of `request`"
            )
        if name in {"activate", "retire"}:
            command.add_argument("--force", action="store_true", help="also if it cuts peers off")


def _add_hsm(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--hsm-module", metavar="FILE", help="make the key in this PKCS#11 library's token"
    )
    command.add_argument("--hsm-token", metavar="LABEL")
    command.add_argument("--hsm-key", metavar="LABEL", help="label for the key")


def show(options: argparse.Namespace) -> int:
    """Show."""
    sequence, roots = _rotation(options).status()
    if options.json:
        output.document(
            {
                "trust_domain": options.trust_domain,
                "sequence": sequence,
                "roots": [_plain(root) for root in roots],
            }
        )
        return 0
    rows = [
        (
            root.name,
            root.state,
            root.kind,
            _time(root.not_after_s),
            _time(root.ready_s),
            _time(root.until_s),
            root.sha256,
        )
        for root in roots
    ]
    output.table(
        ("ROOT", "STATE", "KIND", "EXPIRES", "MAY SIGN FROM", "ITS SVIDS UNTIL", "SHA-256"), rows
    )
    return 0


def request(options: argparse.Namespace) -> int:
    """Print a CSR."""
    csr = _rotation(options).request(_place(options)).decode()
    if options.json:
        output.document({"trust_domain": options.trust_domain, "csr": csr})
    else:
        output.text(csr)
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Publish a new root."""
    rotation = _rotation(options)
    if options.chain is None:
        if options.key is not None:
            raise UsageError("--key needs --chain")
        return _say(options, rotation.prepare(_place(options)), "prepared")
    key = None if options.key is None else _read(options.key)
    return _say(options, rotation.prepare_signed(_read(options.chain), key), "prepared")


def activate(options: argparse.Namespace) -> int:
    """Sign with the new root."""
    return _say(options, _rotation(options).activate(force=options.force), "active")


def retire(options: argparse.Namespace) -> int:
    """Drop the old root."""
    return _say(options, _rotation(options).retire(force=options.force), "retired")


def _rotation(options: argparse.Namespace) -> Rotation:
    return issuers.responsible(layout_of(options), options.trust_domain).rotation()


def _place(options: argparse.Namespace) -> Place | None:
    given = (options.hsm_module, options.hsm_token, options.hsm_key)
    if not any(given):
        return None
    if not all(given):
        raise UsageError("--hsm-module, --hsm-token and --hsm-key belong together")
    module, token, label = given
    return Place(module=os.path.abspath(module), token=token, label=label)  # noqa: PTH100 -- text


def _read(path: Path) -> bytes:
    data = atomic.read(path, bytes_max=_FILE_BYTES_MAX)
    if data is None:
        raise UsageError("there is no such file", where=str(path))
    return data


def _say(options: argparse.Namespace, name: str, state: str) -> int:
    layout = layout_of(options)
    if layout.operator.cert.exists():
        identities.refresh_people(layout)
    if options.json:
        output.document({"trust_domain": options.trust_domain, "root": name, "state": state})
    else:
        output.note(f"{options.trust_domain}: {name} is {state}")
    return 0


def _plain(root: RootStatus) -> dict[str, Any]:
    table = asdict(root)
    for name in ("not_after_s", "prepared_s", "ready_s", "activated_s", "until_s"):
        table[name.removesuffix("_s")] = _time(table.pop(name)) or None
    return table


def _time(seconds: int) -> str:
    return format_us(seconds * 1_000_000) if seconds else ""
