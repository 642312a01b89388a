"""What the tests of single statements share."""

from typing import Any

import pytest

from plantroom.broker.properties import Property

BOTH = pytest.mark.parametrize("version", [4, 5])


EXPIRY = {Property.SESSION_EXPIRY: 100}


def keeping(version: int) -> dict[str, Any]:
    """Options of a CONNECT whose session outlives its connection."""
    kept = {"properties": EXPIRY} if version == 5 else {}
    return {"version": version, "clean": False, **kept}


def topic_of(body: bytes) -> str:
    return body[2 : 2 + int.from_bytes(body[:2], "big")].decode()
