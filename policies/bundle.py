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
MANIFEST, SIGNATURES = ".manifest", ".signatures.json"
_TEST = "_test.rego"
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
    return parse(read(folder), folder)


def read(folder: Path) -> dict[str, str]:
    """Return the text of every file that belongs to the bundle in `folder`, by its name there.

    Raises:
        ConfigError: naming the file that cannot be read.
    """
    return {path.relative_to(folder).as_posix(): _text(path) for path in files_of(folder)}


def files_of(folder: Path) -> list[Path]:
    """Return the files that make up the bundle in `folder`: those that OPA would load as well.

    Raises:
        ConfigError: when there are too many, or OPA would load data that would not be seen here.
    """
    yaml = next(iter([*folder.rglob("data.yaml"), *folder.rglob("data.yml")]), None)
    if yaml is not None:
        raise _error("data are JSON here: OPA would load this file and we would not", yaml)
    signatures = folder / SIGNATURES
    found = [folder / MANIFEST, *([signatures] if signatures.exists() else [])]
    found += sorted([*folder.rglob("*.rego"), *folder.rglob("data.json")])
    if len(found) > FILES_MAX:
        raise _error(f"{len(found)} files, at most {FILES_MAX} may be", folder)
    return found


def parse(files: Mapping[str, str], folder: Path) -> Bundle:
    """Make a bundle of its files' texts; `folder` is what errors call the place they are from.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    if MANIFEST not in files:
        raise _error("cannot be read (there is none)", folder / MANIFEST)
    manifest = _json(files[MANIFEST], folder / MANIFEST)
    roots = manifest.get("roots")
    if not isinstance(roots, list) or not roots or not all(isinstance(r, str) and r for r in roots):
        raise _error("`roots` is not a list of names", folder / MANIFEST)
    if {root.split("/")[0] for root in roots} & set(OUTSIDE):
        raise _error(f"`roots` may not hold {', '.join(OUTSIDE)}", folder / MANIFEST)
    rego = [(name, text) for name, text in sorted(files.items()) if name.endswith(".rego")]
    if not rego:
        raise _error("no .rego file", folder)
    data: dict[str, Any] = {}
    for name, text in sorted(files.items()):
        if name.rpartition("/")[2] == "data.json":
            _graft(data, tuple(name.split("/")[:-1]), _json(text, folder / name), folder / name)
    _check_roots(roots, _leaf_paths(data, roots), folder)
    return Bundle(
        revision=f"{manifest.get('revision', '')}+{_digest(files)}",
        roots=tuple(roots),
        modules=tuple(module for module in rego if not module[0].endswith(_TEST)),
        tests=tuple(module for module in rego if module[0].endswith(_TEST)),
        data=data,
    )


def _digest(files: Mapping[str, str]) -> str:
    """Return the digest of all that decides: tests and signatures do not."""
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        if not name.endswith(_TEST) and name != SIGNATURES:
            digest.update(f"\0{name}\0{text}".encode())
    return digest.hexdigest()[:12]


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
