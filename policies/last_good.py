"""The last bundle that was good, kept on disk: what decides when its source is broken or away."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantroom.policies.bundle import FILE_BYTES_MAX, FILES_MAX
from plantroom.wire.errors import StorageError

_BYTES_MAX = FILE_BYTES_MAX * FILES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """A bundle's files as they were, and when (wall clock) they were last seen whole."""

    files: Mapping[str, str]
    at_us: int


def save(path: Path, kept: LastGood) -> None:
    """Write it, whole or not at all.

    Raises:
        StorageError: when it cannot be written; what was there stays.
    """
    document = json.dumps({"at_us": kept.at_us, "files": dict(kept.files)})
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"the last good policy bundle cannot be kept: {error.strerror}", where=str(path)
        ) from error


def load(path: Path) -> LastGood | None:
    """Return what was kept, None if there is none that can be read."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
        files, at_us = document["files"], document["at_us"]
        whole = all(isinstance(text, str) for pair in files.items() for text in pair)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return LastGood(files=files, at_us=at_us) if whole and isinstance(at_us, int) else None
