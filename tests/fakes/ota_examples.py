"""The draft's six example envelopes (appendix B), where the vectors lie beside the project."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.wire.cose import ESP256, PublicKey

FILE = Path(__file__).parents[3] / "shared" / "data" / "suit-manifest-37-appendix-b.json"
NUMBERS = range(6)


def load() -> dict[str, Any]:
    if not FILE.exists():
        pytest.skip(f"no test vectors: {FILE} is missing")
    loaded: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


def example(number: int, kind: str = "signed") -> bytes:
    return bytes.fromhex(load()["examples"][str(number)][f"{kind}_hex"])


def key() -> PublicKey:
    loaded = serialization.load_pem_public_key(load()["public_key_pem"].encode())
    assert isinstance(loaded, ec.EllipticCurvePublicKey)
    point = loaded.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return PublicKey(algorithm=ESP256, raw=point)
