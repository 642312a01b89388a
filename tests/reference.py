"""The reference pages, made from the code: `python -m tests.reference` writes them anew.

With `gateway=URL cloud=URL device=URL` it adds to the metrics what those processes show.

`tests/test_docs.py` fails where a page is not what this makes.
"""

import argparse
import dataclasses
import re
import sys
import typing
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plantroom.cli.main import COMMANDS, command_parser
from plantroom.lab import configuration
from plantroom.wire.settings import toml
from plantroom.wire.topics import FAMILIES

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
WRITTEN = "<!-- Written by `make docs` from the code; do not edit. -->"
EVERYWHERE = {"--state", "--json", "--debug", "--help"}
EXIT_CODES = (
    ("0", "done"),
    ("1", "the check failed: books that do not close, a test, a verdict"),
    ("2", "usage"),
    ("3", "configuration"),
    ("4", "not reachable, or no answer in time"),
    ("5", "refused by identity or policy"),
    ("130", "interrupted"),
)


def cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def topics() -> str:
    """One row for each family of topics."""
    rows = [
        (
            f"`v1/{{site}}/{'/'.join((family.name, *family.levels))}`",
            family.what,
            "yes" if family.retained else "",
            "" if family.crosses == "no" else family.crosses,
        )
        for family in FAMILIES
    ]
    return f"""# Topics

{WRITTEN}

`plantroom.wire.topics` owns every topic; building and parsing are inverses. A level is
`[A-Za-z0-9][A-Za-z0-9._:-]{{0,63}}`. The site of cloud services is `cloud`; `{{gateway}}` is
`gateway`. The broker's own figures are below `$SYS/broker/`.

{table(("topic", "what", "retained", "crosses the bridge"), rows)}
"""


def settings() -> str:
    """One table for each section of each kind of process."""
    parts = [
        f"""# Settings

{WRITTEN}

Each process reads one TOML file; `plantroom config sample NAME` prints it with every option, and
`plantroom config check FILE` names what is wrong with one. Every key can be overridden by
`PLANTROOM_<SECTION>_<KEY>`. Unknown keys, wrong types and values out of range are errors."""
    ]
    for kind in configuration.KINDS:
        parts.append(f"## {kind}")
        kind_settings = configuration.settings_of(kind)
        for part in dataclasses.fields(kind_settings):
            inner = typing.get_type_hints(kind_settings)[part.name]
            first = (inner.__doc__ or "").strip().splitlines()[0]
            rows = [option_row(field, getattr(inner(), field.name)) for field in fields(inner)]
            parts.append(f"### {kind} `[{part.name}]`\n\n{first}")
            parts.append(table(("key", "default", "range", "what"), rows))
    return "\n\n".join(parts) + "\n"


def fields(kind: Any) -> tuple[Any, ...]:
    return dataclasses.fields(kind)


def option_row(field: Any, default: object) -> tuple[str, ...]:
    low, high = field.metadata["low"], field.metadata["high"]
    span = f"{'' if low is None else low} … {'' if high is None else high}".strip()
    span = "" if low is None and high is None else span
    span = ", ".join(field.metadata["choices"]) or span
    shown = "unset" if default is None else f"`{toml(default)}`"
    return f"`{field.name}`", shown, span, field.metadata["doc"]


def cli() -> str:
    """One table for each command, with the words below it."""
    parts = [
        f"""# Commands

{WRITTEN}

Data goes to stdout, everything else to stderr. An error is one line: what is wrong, where, and what
to do. Every command takes `--state DIR` (else `PLANTROOM_STATE`, else `.plantroom` here), `--json`
and `--debug`.

{table(("exit code", "means"), list(EXIT_CODES))}"""
    ]
    for name, text in COMMANDS.items():
        parts.append(f"## plantroom {name}\n\n{text[0].upper()}{text[1:]}.")
        for words, parser in leaves(name):
            parts.append(f"```\n{' '.join([*words, *synopsis(parser)])}\n```")
            rows = [argument_row(action) for action in arguments(parser)]
            if rows:
                parts.append(table(("argument", "what"), rows))
    return "\n\n".join(parts) + "\n"


def leaves(command: str) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """The parsers of a command that run something, each with the words that lead there."""
    top = children(command_parser([command]))[command]
    waiting = [(["plantroom", command], top)]
    while waiting:
        words, parser = waiting.pop(0)
        below = children(parser)
        if not below:
            yield words, parser
        waiting = [([*words, name], child) for name, child in below.items()] + waiting


def children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action for action in parser._actions if not EVERYWHERE.intersection(action.option_strings)
    ]


def synopsis(parser: argparse.ArgumentParser) -> list[str]:
    found = []
    for action in arguments(parser):
        word = shown(action)
        optional = action.nargs in {"?", "*"} or (action.option_strings and not action.required)
        found.append(f"[{word}]" if optional else word)
    return found


def shown(action: argparse.Action) -> str:
    value = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    value = str(value or action.dest.upper())
    if not action.option_strings:
        return value
    return (
        action.option_strings[-1] if action.nargs == 0 else f"{action.option_strings[-1]} {value}"
    )


def argument_row(action: argparse.Action) -> tuple[str, ...]:
    choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
    return f"`{shown(action)}`", (action.help or "") + choices


PAGES = {"topics.md": topics, "settings.md": settings, "cli.md": cli}


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Figure:
    """One metric: its name, kind, help, and which processes show it."""

    name: str
    kind: str
    processes: tuple[str, ...]
    text: str


def documented() -> list[Figure]:
    """The figures on the page."""
    page = FOLDER / "metrics.md"
    text = page.read_text("utf-8") if page.exists() else ""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]+) \| (.*) \|$", text, re.MULTILINE)
    return [Figure(name, kind, tuple(by.split(", ")), what) for name, kind, by, what in rows]


def scraped(process: str, address: str) -> list[Figure]:
    """The figures that a process shows at this address."""
    with urllib.request.urlopen(f"{address.rstrip('/')}/metrics", timeout=20) as answer:  # noqa: S310
        text = answer.read().decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    return [Figure(name, kind, (process,), helps[name]) for name, kind in kinds]


def metrics(figures: Sequence[Figure]) -> str:
    """One row for each figure; one that several processes show has one row."""
    merged: dict[str, Figure] = {}
    for figure in figures:
        known = merged.get(figure.name, figure)
        by = tuple(sorted({*known.processes, *figure.processes}))
        merged[figure.name] = dataclasses.replace(figure, processes=by)
    rows = [
        (f"`{one.name}`", one.kind, ", ".join(one.processes), one.text)
        for one in sorted(merged.values())
    ]
    return f"""# Metrics

{WRITTEN}

At `/metrics`, in Prometheus' text form. Counters end in `_total`; some figures appear with the
first event that they count. A sensor shows its own when `[server]` and `[metrics]` are enabled.

{table(("name", "kind", "shown by", "what"), rows)}
"""


def main(words: Sequence[str]) -> int:
    """Write every page; with PROCESS=URL …, the metrics that those processes show as well."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
    if words:
        seen = [figure for word in words for figure in scraped(*word.split("=", 1))]
        (FOLDER / "metrics.md").write_text(metrics([*documented(), *seen]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
