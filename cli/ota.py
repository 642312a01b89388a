"""`plantroom ota`: keys, trust, releases and heads of firmware updates; publish and watch."""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any, get_args

from plantroom.certs import signing_keys
from plantroom.cli import ota_campaign, output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import ota_files, ota_keys, ota_publish
from plantroom.lab.building import SITE
from plantroom.lab.ota_files import Roles, Wanted
from plantroom.lab.ota_publish import Publication
from plantroom.wire import cose, trust
from plantroom.wire.errors import RejectedError, UsageError
from plantroom.wire.firmware import CHUNK_BYTES, DEFAULT_VENDOR, IMAGE_BYTES_MAX
from plantroom.wire.head import EXPIRES_S, Rollout

DAY_S = 86400
KEY_HELP = "PEM file, or pkcs11:token=…;object=…?module-path=…"
WAIT_S = 300.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the nouns and verbs."""
    commands = subcommands(parser)
    _configure_keys(commands)
    sign = subcommand(
        commands, "sign", "make an image's signed manifest, or add a signature", sign_
    )
    sign.add_argument("file", metavar="FILE", help="the image, or with --add the document")
    sign.add_argument("--add", action="store_true", help="FILE is a manifest or trust document")
    sign.add_argument("--out", metavar="FILE", help="where to write it (FILE.suit)")
    _add_release(sign)
    heads = subcommand(commands, "head", "name the current releases", head_)
    heads.add_argument("manifests", metavar="MANIFEST", nargs="*")
    heads.add_argument("--version", type=int, metavar="N", required=True, help="higher than before")
    heads.add_argument("--revoke", metavar="MANIFEST", action="append", default=[])
    heads.add_argument("--rollout", choices=get_args(Rollout), default="all")
    heads.add_argument("--expires-days", type=float, metavar="D", default=EXPIRES_S / DAY_S)
    heads.add_argument("--key", metavar="KEY", help=f"head key: {KEY_HELP}")
    heads.add_argument("--out", metavar="FILE", required=True)
    publish = subcommand(
        commands, "publish", "send a release out, and watch devices take it", publish_
    )
    publish.add_argument("image", metavar="IMAGE")
    publish.add_argument("--manifest", metavar="FILE", help="signed before, instead of --version")
    publish.add_argument("--site", default=SITE, help=f"the building ({SITE})")
    publish.add_argument("--rollout", choices=get_args(Rollout), default="all")
    publish.add_argument("--wait", type=float, metavar="S", default=WAIT_S, help="0: do not watch")
    _add_release(publish)
    verify = subcommand(commands, "verify", "check a document's signatures, and its image", verify_)
    verify.add_argument("file", metavar="FILE")
    verify.add_argument("--trust", metavar="FILE", help="trust document (that of the state folder)")
    verify.add_argument("--image", metavar="FILE", help="check this image against the manifest")
    inspect = subcommand(commands, "inspect", "tell what a document says", inspect_)
    inspect.add_argument("file", metavar="FILE")
    ota_campaign.configure(commands)


def _configure_keys(commands: Any) -> None:
    keys = subcommands(commands.add_parser("key", help="keys that sign"))
    create = subcommand(keys, "create", "make a key, and FILE.pub beside a file", make_key)
    create.add_argument("key", metavar="KEY", help=KEY_HELP)
    create.add_argument("--algorithm", choices=signing_keys.ALGORITHMS, default="ed25519")
    show = subcommand(keys, "show", "print a key's name and algorithm", show_key)
    show.add_argument("key", metavar="KEY", help=KEY_HELP)
    make = subcommand(commands, "trust", "say which keys may sign what", trust_)
    for role in trust.ROLES:
        make.add_argument(f"--{role}", metavar="KEY", action="append", required=True)
    make.add_argument("--threshold", type=int, metavar="N", default=trust.ROOT_THRESHOLD)
    make.add_argument("--author-threshold", type=int, metavar="N", default=1)
    make.add_argument("--version", type=int, metavar="N", default=1, help="1, then 2, …")
    make.add_argument("--also", metavar="KEY", action="append", default=[], help="an old root key")
    make.add_argument("--expires-days", type=float, metavar="D", default=ota_keys.TRUST_DAYS)
    make.add_argument("--out", metavar="FILE", required=True)


def _add_release(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--version", metavar="V", help="numbers and dots, as 1.4.0")
    add("--class", dest="kind", metavar="NAME", default="hvac", help="class of devices (hvac)")
    add("--vendor", metavar="DOMAIN", default=DEFAULT_VENDOR, help=f"({DEFAULT_VENDOR})")
    add("--sequence", type=int, metavar="N", default=0, help="rises (the time in seconds)")
    add("--device", metavar="SPIFFE_ID", default="", help="for this device alone")
    add("--notes", metavar="TEXT", default="", help="release notes")
    add("--chunk-bytes", type=int, metavar="N", default=CHUNK_BYTES, help=f"({CHUNK_BYTES})")
    add("--key", metavar="KEY", action="append", default=[], help=f"author key: {KEY_HELP}")


def make_key(options: argparse.Namespace) -> int:
    """Make a key."""
    signing_keys.create(options.key, options.algorithm)
    return show_key(options)


def show_key(options: argparse.Namespace) -> int:
    """Print what a key is called in documents."""
    key = signing_keys.public_key(options.key)
    told = {"key": key.kid.hex(), "algorithm": cose.ALGORITHMS[key.algorithm]}
    return _print(options, told | {"place": options.key})


def trust_(options: argparse.Namespace) -> int:
    """Make a trust document."""
    roles = Roles(
        root=options.root,
        author=options.author,
        head=options.head,
        root_threshold=options.threshold,
        author_threshold=options.author_threshold,
    )
    expires_s = int(time.time() + options.expires_days * DAY_S)
    document = ota_files.make_trust(
        roles, version=options.version, expires_s=expires_s, also=options.also
    )
    return _write(options, Path(options.out), document)


def sign_(options: argparse.Namespace) -> int:
    """Sign."""
    path = Path(options.file)
    if options.add:
        data = _document(options.file)
        for key in _author_keys(options):
            data = ota_files.add_signature(data, key)
        return _write(options, Path(options.out or path), data)
    image = ota_files.read(path, bytes_max=IMAGE_BYTES_MAX)
    data = _sign_image(options, image)
    return _write(options, Path(options.out or f"{path}.suit"), data)


def _sign_image(options: argparse.Namespace, image: bytes) -> bytes:
    if not options.version:
        raise UsageError(
            "a release has a version", where="--version", remedy="give numbers and dots, as 1.4.0"
        )
    wanted = Wanted(
        version=options.version,
        kind=options.kind,
        vendor=options.vendor,
        sequence=options.sequence,
        device=options.device,
        notes=options.notes,
        chunk_bytes=options.chunk_bytes,
    )
    return ota_files.sign_image(image, wanted, _author_keys(options))


def _author_keys(options: argparse.Namespace) -> list[str]:
    return options.key or [str(layout_of(options).ota / ota_keys.AUTHOR_KEY_FILE)]


def head_(options: argparse.Namespace) -> int:
    """Make a head."""
    document = ota_files.make_head(
        [_document(name) for name in options.manifests],
        version=options.version,
        rollout=options.rollout,
        revoked=[_document(name) for name in options.revoke],
        life_s=int(options.expires_days * DAY_S),
        key=options.key or str(layout_of(options).ota / ota_keys.HEAD_KEY_FILE),
    )
    return _write(options, Path(options.out), document)


def publish_(options: argparse.Namespace) -> int:
    """Publish, and watch until every device of the class has come to an end."""
    image = ota_files.read(Path(options.image), bytes_max=IMAGE_BYTES_MAX)
    manifest = _document(options.manifest) if options.manifest else _sign_image(options, image)
    wanted = Publication(
        manifest=manifest,
        image=image,
        site=options.site,
        kind=options.kind,
        rollout=options.rollout,
        patience_s=options.wait,
    )
    progress = output.Progress()

    def tell(text: str) -> None:
        progress.clear()
        output.note(text)

    try:
        done = asyncio.run(
            ota_publish.publish(layout_of(options), wanted, tell=tell, show=progress.show)
        )
    finally:
        progress.clear()
    states = {device: report.state for device, report in sorted(done.reports.items())}
    if options.json:
        output.document({"release": done.release.digest.hex(), "states": states})
    else:
        output.table(("DEVICE", "STATE"), states.items())
    return 0 if set(states.values()) <= ota_publish.WELL or not options.wait else 1


def verify_(options: argparse.Namespace) -> int:
    """Check."""
    anchor = Path(options.trust or layout_of(options).ota / ota_keys.TRUST_FILE)
    image = None
    if options.image:
        image = ota_files.read(Path(options.image), bytes_max=IMAGE_BYTES_MAX)
    document = ota_files.read(Path(options.file))
    told = ota_files.verify(document, ota_files.read(anchor), image, where=options.file)
    return _print(options, told)


def inspect_(options: argparse.Namespace) -> int:
    """Tell."""
    return _print(options, _told(options.file))


def _document(name: str) -> bytes:
    """Read a document that is of its form."""
    _told(name)
    return ota_files.read(Path(name))


def _told(name: str) -> dict[str, Any]:
    try:
        return ota_files.inspect(ota_files.read(Path(name)))
    except RejectedError as error:
        raise UsageError(
            f"not a manifest, head or trust document: {error}", where=name, remedy="give another"
        ) from error


def _write(options: argparse.Namespace, path: Path, data: bytes) -> int:
    ota_files.write(path, data)
    output.note(f"wrote {path}, {len(data)} bytes")
    return _print(options, _told(str(path))) if options.json else 0


def _print(options: argparse.Namespace, told: dict[str, Any]) -> int:
    if options.json:
        output.document(told)
    else:
        output.line("\n".join(f"{name}: {value}" for name, value in told.items()))
    return 0
