"""Development keys for updates, and who is handed what of them: made once, when a folder is set up.

Three root keys, an author key and a head key in `ota/`, the first trust document beside them; the
document goes to devices, gateway and cloud, the head key to the cloud alone. In production the
roots and the author are elsewhere: see docs/how-to/update-firmware.md.
"""

import time
from pathlib import Path

from plantroom.certs import atomic, signing_keys
from plantroom.device import updater_setup
from plantroom.lab.building import Device
from plantroom.lab.layout import Layout
from plantroom.wire import trust
from plantroom.wire.cose import DOCUMENT_BYTES_MAX
from plantroom.wire.trust import ROOT_KEYS, ROOT_THRESHOLD

TRUST_FILE, HEAD_KEY_FILE, AUTHOR_KEY_FILE = "trust.cbor", "head.pem", "author.pem"
TRUST_DAYS = 3650
_KEY_BYTES_MAX = 16 * 1024


def prepare(layout: Layout, devices: tuple[Device, ...]) -> None:
    """Make what is missing, and hand it over to whoever does not have it yet."""
    folder = layout.ota
    if not (folder / TRUST_FILE).exists():
        _make(folder)
    document = _read(folder / TRUST_FILE)
    for place in (layout.gateway / "ota", layout.cloud / "ota"):
        _hand_over(place / TRUST_FILE, document, mode=atomic.PUBLIC)
    head_key = _read(folder / HEAD_KEY_FILE)
    _hand_over(layout.cloud / "ota" / HEAD_KEY_FILE, head_key, mode=atomic.PRIVATE)
    for device in devices:
        place = layout.device(device.name) / updater_setup.TRUST_FILE
        _hand_over(place, document, mode=atomic.PUBLIC)


def _make(folder: Path) -> None:
    roots = [folder / f"root-{number}.pem" for number in range(1, ROOT_KEYS + 1)]
    for path in (*roots, folder / AUTHOR_KEY_FILE, folder / HEAD_KEY_FILE):
        if not path.exists():
            signing_keys.create(str(path))
    payload = trust.payload(
        version=1,
        expires_s=int(time.time()) + TRUST_DAYS * 86400,
        roles={
            "root": (ROOT_THRESHOLD, [signing_keys.public_key(str(path)) for path in roots]),
            "author": (1, [signing_keys.public_key(str(folder / AUTHOR_KEY_FILE))]),
            "head": (1, [signing_keys.public_key(str(folder / HEAD_KEY_FILE))]),
        },
    )
    signers = [signing_keys.signer(str(path)) for path in roots[:ROOT_THRESHOLD]]
    atomic.write(folder / TRUST_FILE, trust.build(payload, signers), mode=atomic.PUBLIC)


def _read(path: Path) -> bytes:
    return atomic.read(path, bytes_max=max(DOCUMENT_BYTES_MAX, _KEY_BYTES_MAX)) or b""


def _hand_over(path: Path, data: bytes, *, mode: int) -> None:
    """Write it where there is none: what is there may be another, given on purpose."""
    if data and not path.exists():
        atomic.make_private_folder(path.parent)
        atomic.write(path, data, mode=mode)
