"""Other people's code reads what we write, and we read what it writes.

`cwt` (COSE and CWT) and `taylor-suit` (a SUIT author) are installed with pip in an environment of
their own: they want another cbor2 than we do.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import light_signatures, signatures
from plantroom.wire import head, suit, trust
from plantroom.wire.cose import ES256, Signer
from tests.fakes import ota_author, ota_examples
from tests.fakes.ota_author import DEVICE, Author

FAKES = Path(__file__).parents[1] / "fakes"
PACKAGES = ("cwt>=3.3", "taylor-suit>=0.2")

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make the oracles' environment."""
    folder = tmp_path_factory.mktemp("oracles")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    program = str(folder / "bin" / "python")
    command = [program, "-m", "pip", "install", "--quiet", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(PACKAGES)}: {done.stderr.strip()[-200:]}")
    return program


def ask(python: str, oracle: str, given: object, **environ: str) -> Any:
    done = subprocess.run(
        [python, str(FAKES / f"oracle_{oracle}.py")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environ,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def plain(signer: Signer) -> dict[str, Any]:
    key = signer.key
    return {"algorithm": key.algorithm, "raw": key.raw.hex(), "kid": key.kid.hex()}


@pytest.mark.parametrize("make", [ota_author.signer, ota_author.p256_signer])
def test_cwt_reads_and_verifies_all_three_documents(python: str, make: Any) -> None:
    author = Author()
    author.roots, author.authors, author.heads = [make() for _ in range(3)], [make()], [make()]
    manifest = author.manifest()
    documents = {"manifest": manifest, "head": author.head(4, [manifest]), "trust": author.trust(3)}
    given: dict[str, Any] = {name: data.hex() for name, data in documents.items()}
    given["author"] = [plain(one) for one in author.authors]
    given["head_keys"] = [plain(one) for one in author.heads]
    given["roots"] = [plain(one) for one in author.roots]
    told = ask(python, "cwt", given)
    made = head.read(documents["head"])[0]
    assert told == {
        "manifest": {"signed_digest": suit.read(manifest).digest.hex(), "signatures": 1},
        "head": {"exp": made.expires_s, "version": 4},
        "trust": trust.read(documents["trust"])[0].version,
    }


def in_taylors_words(author: Author) -> dict[str, Any]:
    """Say our release in the words of taylor's JSON."""
    release = author.release(7, device=DEVICE)
    table = release.chunks.encode()
    match = {"suit-condition-image-match": 15}

    def image(digest: bytes, size: int) -> dict[str, Any]:
        return {
            "image-digest": {"algorithm": "sha256", "digest": digest.hex()},
            "image-size": size,
        }

    def fetch(component: int, uri: str) -> list[dict[str, Any]]:
        return [
            {"suit-directive-set-component-index": component},
            {"suit-directive-override-parameters": {"uri": uri}},
            {"suit-directive-fetch": 2},
            match,
        ]

    ids = {
        "vendor-id": str(uuid.UUID(bytes=release.vendor_id)),
        "class-id": str(uuid.UUID(bytes=release.class_id)),
        "device-id": str(uuid.UUID(bytes=release.device_id or b"")),
    }
    return {
        "version": 1,
        "sequence-number": 7,
        "suit-common": {
            "suit-components": [[b"firmware".hex()], [b"chunks".hex()]],
            "suit-shared-sequence": [
                {"suit-directive-set-component-index": 1},
                {"suit-directive-override-parameters": image(ota_author.digest(table), len(table))},
                {"suit-directive-set-component-index": 0},
                {
                    "suit-directive-override-parameters": ids
                    | image(release.image_digest, release.chunks.image_bytes)
                },
                {"suit-condition-vendor-identifier": 15},
                {"suit-condition-class-identifier": 15},
                {"suit-condition-device-identifier": 15},
            ],
        },
        "suit-set-version": [1, 7, 0],
        "sequence": {
            "image-validation": [{"suit-directive-set-component-index": 0}, match],
            "payload-installation": [
                *fetch(1, "#chunks"),
                *fetch(0, f"mqtt:fw/{release.image}"),
            ],
        },
    }


def meaning(data: Any) -> Any:
    """Decode what is wrapped, as deep as it goes: taylor leaves parameters in the order of JSON."""
    if isinstance(data, bytes) and len(data) > 1:
        try:
            inner = cbor2.loads(data)
        except cbor2.CBORDecodeError:
            return data
        wrapped = isinstance(inner, list | dict) and cbor2.dumps(inner) == data
        return meaning(inner) if wrapped else data
    if isinstance(data, list):
        return [meaning(one) for one in data]
    if isinstance(data, dict):
        return {key: meaning(one) for key, one in data.items()}
    return data


def test_taylor_says_the_release_as_we_say_it(python: str) -> None:
    author = Author()
    ours = cbor2.loads(author.manifest(7, device=DEVICE)).value[suit.MANIFEST]
    (envelope,) = ask(python, "taylor", [in_taylors_words(author)])
    theirs = cbor2.loads(bytes.fromhex(envelope)).value[suit.MANIFEST]
    assert meaning(theirs) == meaning(ours)


EXAMPLE_1 = {
    "version": 1,
    "sequence-number": 1,
    "suit-common": {
        "suit-components": [["00"]],
        "suit-shared-sequence": [
            {
                "suit-directive-override-parameters": {
                    "vendor-id": "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe",
                    "class-id": "1492af14-2569-5e48-bf42-9b2d51f2ab45",
                    "image-digest": {
                        "algorithm": "sha256",
                        "digest": "00112233445566778899aabbccddeeff"
                        "0123456789abcdeffedcba9876543210",
                    },
                    "image-size": 34768,
                }
            },
            {"suit-condition-vendor-identifier": 15},
            {"suit-condition-class-identifier": 15},
        ],
    },
    "sequence": {
        "image-validation": [{"suit-condition-image-match": 15}],
        "payload-installation": [
            {"suit-directive-override-parameters": {"uri": "http://example.com/file.bin"}},
            {"suit-directive-fetch": 2},
            {"suit-condition-image-match": 15},
        ],
    },
}


def test_we_read_and_verify_what_taylor_signs(python: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (made,) = ask(python, "taylor", [EXAMPLE_1], KEY_PEM=pem.decode())
    envelope = suit.read(bytes.fromhex(made))
    (signature,) = envelope.signed.signatures
    assert signature.algorithm == ES256
    public = signatures.public_key(key)
    for verify in (signatures.verify, light_signatures.verify):
        assert signature.is_of(public, envelope.signed.payload, verify)
    theirs, draft = (
        cbor2.loads(one).value[suit.MANIFEST]
        for one in (bytes.fromhex(made), ota_examples.example(1))
    )
    assert meaning(theirs) == meaning(draft)
