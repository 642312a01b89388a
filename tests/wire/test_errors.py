"""The error tree: every branch as drawn, every exit code as documented, one line for people."""

import inspect
from typing import Any

import pytest

from plantroom.wire import errors
from plantroom.wire.errors import PlantroomError

EXIT_CODES = {
    "UsageError": 2,
    "ConfigError": 3,
    "UnreachableError": 4,
    "RefusedError": 5,
    "StorageError": 1,
    "CheckFailedError": 1,
    "WireError": 1,
}
TREE: list[Any] = [kind for kind in vars(errors).values() if inspect.isclass(kind)]


def ancestors(kind: type) -> set[str]:
    return {parent.__name__ for parent in kind.__mro__}


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_is_drawn_in_the_tree_and_has_the_exit_code_of_its_branch(
    kind: type[PlantroomError],
) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert issubclass(kind, PlantroomError)
    assert kind.__name__.endswith("Error")
    branch = ancestors(kind) & set(EXIT_CODES)
    assert {EXIT_CODES[name] for name in branch} <= {kind.exit_code}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PlantroomError("no space left"), "no space left"),
        (PlantroomError("no space left", where="/a/b"), "no space left, /a/b"),
        (PlantroomError("no space left", remedy="free some"), "no space left: free some"),
        (PlantroomError("a", where="b", remedy="c"), "a, b: c"),
    ],
)
def test_an_error_is_one_line_with_what_where_and_remedy(error: PlantroomError, line: str) -> None:
    assert str(error) == line


def test_a_retry_helps_where_time_or_space_heals() -> None:
    healing = {kind.__name__ for kind in TREE if kind.retry_helps}
    assert healing == {"UnreachableError", "StorageFullError"}


def test_what_the_audit_and_the_quarantine_need_is_a_field() -> None:
    refused = errors.IdentityError("peer has no certificate", reason="no-certificate")
    assert (refused.reason, refused.exit_code) == ("no-certificate", 5)
    assert errors.PackError("cut off").reason == "undecodable"
    assert errors.PackError("not finite", reason="not-finite").reason == "not-finite"
