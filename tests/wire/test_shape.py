"""Dataclasses to plain values and back: equal there and back, or the field is named."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import shape
from plantroom.wire.errors import EnvelopeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str
    size: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    kind: Literal["oak", "fir"]
    height: float
    leaf: Leaf
    alive: bool = True
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[int, str] | None = None
    by_name: Mapping[str, Mapping[int, bytes]] = field(default_factory=dict)
    note: str | None = None
    data: Any = None


GOOD: dict[str, Any] = {"kind": "oak", "height": 1.5, "leaf": {"name": "a"}}
integers = st.integers(min_value=-(2**63), max_value=2**63 - 1)
leaves = st.builds(Leaf, name=st.text(max_size=5), size=integers)
trees = st.builds(
    Tree,
    kind=st.sampled_from(["oak", "fir"]),
    height=st.floats(allow_nan=False),
    leaf=leaves,
    alive=st.booleans(),
    leaves=st.lists(leaves, max_size=3).map(tuple),
    pair=st.none() | st.tuples(integers, st.text(max_size=3)),
    by_name=st.dictionaries(
        st.text(max_size=3),
        st.dictionaries(integers, st.binary(max_size=3), max_size=2),
        max_size=2,
    ),
    note=st.none() | st.text(max_size=3),
)


@given(trees)
def test_from_plain_is_the_inverse_of_to_plain(tree: Tree) -> None:
    assert shape.from_plain(Tree, shape.to_plain(tree), EnvelopeError) == tree


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Tree.__slots__, "name", 1]), inner, max_size=5)
    ),
)


@given(anything)
def test_anything_is_a_value_or_the_callers_error(value: object) -> None:
    try:
        made = shape.from_plain(Tree, value, EnvelopeError)
    except EnvelopeError as error:
        assert error.what  # noqa: PT017 -- either way is right
    else:
        assert isinstance(made, Tree)


def test_a_field_at_its_default_is_left_out() -> None:
    assert shape.to_plain(Tree(kind="oak", height=1.5, leaf=Leaf(name="a"))) == GOOD


def test_a_field_of_a_later_version_is_ignored() -> None:
    made = shape.from_plain(Tree, GOOD | {"colour": "green"}, EnvelopeError)
    assert made == Tree(kind="oak", height=1.5, leaf=Leaf(name="a"))


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    made = shape.from_plain(Tree, GOOD | {"height": 2}, EnvelopeError)
    assert isinstance(made.height, float)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "elm"}, "kind is not one of oak, fir"),
        ({"kind": []}, "kind is not one of oak, fir"),
        ({"height": True}, "height is bool, float is wanted"),
        ({"height": "1"}, "height is str, float is wanted"),
        ({"leaf": 5}, "leaf is not a map"),
        ({"leaf": {"name": 5}}, "name is int, str is wanted"),
        ({"leaf": {"name": "a", "size": True}}, "size is bool, int is wanted"),
        ({"leaf": {"name": "a", "size": 2**63}}, "size is beyond 64 bits"),
        ({"leaf": {}}, "Leaf misses a field"),
        ({"alive": 1}, "alive is int, bool is wanted"),
        ({"alive": None}, "alive is NoneType, bool is wanted"),
        ({"leaves": {}}, "leaves is not a list"),
        ({"leaves": [1]}, "leaves is not a map"),
        ({"pair": [1]}, "pair has 1 parts, 2 are wanted"),
        ({"pair": ["a", 1]}, "pair is str, int is wanted"),
        ({"by_name": []}, "by_name is not a map"),
        ({"by_name": {1: {}}}, "by_name is int, str is wanted"),
        ({"by_name": {"a": {1: "b"}}}, "by_name is str, bytes is wanted"),
        ({"note": 5}, "note is int, str is wanted"),
    ],
)
def test_what_does_not_fit_names_its_field(change: dict[str, Any], text: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        shape.from_plain(Tree, GOOD | change, EnvelopeError)
    assert caught.value.what.startswith(text)


def test_what_is_no_map_names_what_was_wanted() -> None:
    with pytest.raises(EnvelopeError, match="Tree is not a map"):
        shape.from_plain(Tree, [], EnvelopeError)
