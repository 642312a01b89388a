"""Readings as columns: what makes a batch small on the bridge's wire.

STUB
"""

from collections.abc import Sequence
from typing import Any

from plantroom.wire import cbor, senml
from plantroom.wire.errors import PackError
from plantroom.wire.reading import Reading


def encode(readings: Sequence[Reading]) -> Any:
    """Encode readings as plain CBOR values, in order."""
    return senml.encode(readings) if readings else b""


def decode(rows: Any) -> tuple[Reading, ...]:
    """Decode; the inverse of `encode`.

    Raises:
        PackError: when a run breaks a rule.
    """
    return senml.decode(rows).readings if rows else ()
