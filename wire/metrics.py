"""Prometheus text exposition, rendered from plain values (format version 0.0.4)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """One time series now: `name` ends in its unit; counters end in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: Mapping[str, str] | None = None


def render(metrics: Iterable[Metric]) -> str:
    """Render metrics as text, series of one name together under their HELP and TYPE."""
    families: dict[str, list[Metric]] = {}
    for metric in metrics:
        families.setdefault(metric.name, []).append(metric)
    lines = []
    for name, members in families.items():
        lines += [f"# HELP {name} {_escape_help(members[0].help)}"]
        lines += [f"# TYPE {name} {members[0].kind}"]
        lines += [f"{name}{_labels(metric.labels)} {_number(metric.value)}" for metric in members]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str] | None) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    if math.isfinite(value):
        return f"{value:.16g}"
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escape(value: str) -> str:
    return _escape_help(value).replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
