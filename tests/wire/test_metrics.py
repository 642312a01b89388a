"""Metrics in the text form that Prometheus scrapes."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire.metrics import CONTENT_TYPE, Metric, render

DEPTH = Metric("queue_rows", "gauge", "Rows waiting.", 3, {"lane": "live"})


def test_series_of_one_name_stand_together_under_one_head() -> None:
    sent = Metric("sent_total", "counter", "Readings sent.", 12)
    other = Metric("queue_rows", "gauge", "Rows waiting.", 4.5, {"lane": "backfill"})
    assert render([DEPTH, sent, other]) == (
        "# HELP queue_rows Rows waiting.\n"
        "# TYPE queue_rows gauge\n"
        'queue_rows{lane="live"} 3\n'
        'queue_rows{lane="backfill"} 4.5\n'
        "# HELP sent_total Readings sent.\n"
        "# TYPE sent_total counter\n"
        "sent_total 12\n"
    )
    assert "0.0.4" in CONTENT_TYPE


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_label_value_can_break_out_of_its_quotes(value: str) -> None:
    line = render([Metric("a", "gauge", "h", 1, {"l": value})]).split("\n", 2)[2]
    found = re.fullmatch(r'a\{l="((?:[^"\\\n]|\\["\\n])*)"\} 1\n', line)
    assert found is not None
    assert unescaped(found[1]) == value


def test_a_help_text_stays_on_its_line() -> None:
    text = render([Metric("a", "gauge", "one\ntwo \\ three", 1)])
    assert text.splitlines()[0] == "# HELP a one\\ntwo \\\\ three"


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (2**53, "9007199254740992")],
)
def test_odd_numbers_have_prometheus_form(value: float, text: str) -> None:
    assert render([Metric("a", "gauge", "h", value)]).endswith(f"\na {text}\n")
