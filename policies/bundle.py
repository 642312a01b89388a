"""A policy bundle as files, read and checked before any engine sees it.

A bundle is a folder with `.manifest` (revision, roots), `*.rego` and `data.json` files, laid out as
OPA wants it. What the bundle may not hold is what would make a denial fail open: data under a
package's path overrides the package's rules in the embedded engine, and `registry`, `revocation`
and `system` belong to whoever runs the broker.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantroom.wire.errors import ConfigError

FILE_BYTES_MAX = 1024 * 1024
FILES_MAX = 256
OUTSIDE = ("registry", "revocation", "system")
_REMEDY = "restore the file, or point at a folder with a whole bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's modules (path and Rego text), its tests, its data, and the roots it may fill.

    `revision` is the manifest's with a digest of every file, so that any edit has a new one.
    """

    revision: str
    roots: tuple[str, ...]
    modules: tuple[tuple[str, str], ...]
    tests: tuple[tuple[str, str], ...]
    data: Mapping[str, Any]


def load(folder: Path) -> Bundle:
    """Read the bundle in `folder`.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    manifest_text = _text(folder / ".manifest")
    manifest = _json(manifest_text, folder / ".manifest")
    roots = manifest.get("roots")
    if not isinstance(roots, list) or not roots or not all(isinstance(r, str) and r for r in roots):
        raise _error("`roots` is not a list of names", folder / ".manifest")
    if {root.split("/")[0] for root in roots} & set(OUTSIDE):
        raise _error(f"`roots` may not hold {', '.join(OUTSIDE)}", folder / ".manifest")
    digest = hashlib.sha256(manifest_text.encode())
    rego: list[tuple[str, str]] = []
    data: dict[str, Any] = {}
    for path in _files(folder):
        name, text = path.relative_to(folder).as_posix(), _text(path)
        if path.suffix == ".rego":
            rego.append((name, text))
        else:
            _graft(data, path.relative_to(folder).parts[:-1], _json(text, path), path)
        if not name.endswith("_test.rego"):
            digest.update(f"\0{name}\0{text}".encode())
    _check_roots(roots, _leaf_paths(data, roots), folder)
    return Bundle(
        revision=f"{manifest.get('revision', '')}+{digest.hexdigest()[:12]}",
        roots=tuple(roots),
        modules=tuple(module for module in rego if not module[0].endswith("_test.rego")),
        tests=tuple(module for module in rego if module[0].endswith("_test.rego")),
        data=data,
    )


def check_packages(bundle: Bundle, packages: Iterable[str]) -> None:
    """Check the packages that the engine found (`data.mqtt.authz`) against roots and data.

    Raises:
        ConfigError: when a package lies outside the roots, or data lie under its path.
    """
    for package in packages:
        levels = package.split(".")[1:]
        _check_roots(bundle.roots, ["/".join(levels)], package)
        node: Any = bundle.data
        for level in levels:
            if not isinstance(node, Mapping) or level not in node:
                break
            node = node[level]
        else:
            raise _error("data lie under a package's path and would override its rules", package)


def _files(folder: Path) -> list[Path]:
    found = sorted([*folder.rglob("*.rego"), *folder.rglob("data.json")])
    if not any(path.suffix == ".rego" for path in found):
        raise _error("no .rego file", folder)
    if len(found) > FILES_MAX:
        raise _error(f"{len(found)} files, at most {FILES_MAX} may be", folder)
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise _error(f"larger than {FILE_BYTES_MAX} bytes", path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(f"cannot be read ({error})", path) from error


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _error(f"is not JSON ({error})", path) from error
    if not isinstance(value, dict):
        raise _error("is not a JSON object", path)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return table


def _graft(data: dict[str, Any], levels: tuple[str, ...], table: dict[str, Any], at: Path) -> None:
    for level in levels:
        data = data.setdefault(level, {})
        if not isinstance(data, dict):
            raise _error(f"`{level}` is already a value of another data.json", at)
    twice = data.keys() & table.keys()
    if twice:
        raise _error(f"`{min(twice)}` is already in another data.json", at)
    data.update(table)


def _leaf_paths(data: Mapping[str, Any], roots: list[str]) -> Iterator[str]:
    """Give the paths of the data, each only as deep as it takes to stand under a root."""
    for key, value in data.items():
        if isinstance(value, dict) and any(root.startswith(f"{key}/") for root in roots):
            inner = [root.partition("/")[2] for root in roots if root.startswith(f"{key}/")]
            yield from (f"{key}/{path}" for path in _leaf_paths(value, inner))
        else:
            yield key


def _check_roots(roots: Iterable[str], paths: Iterable[str], where: object) -> None:
    for path in paths:
        if not any(path == root or path.startswith(f"{root}/") for root in roots):
            raise _error(f"`{path}` is outside the manifest's roots", where)


def _error(what: str, where: object) -> ConfigError:
    return ConfigError(f"policy bundle: {what}", where=str(where), remedy=_REMEDY)
