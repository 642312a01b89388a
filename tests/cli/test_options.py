import argparse

import pytest

from plantroom.cli.options import Parser, layout_of, runs, spiffe_id, subcommand, subcommands
from plantroom.wire.errors import UsageError


def parser() -> Parser:
    top = Parser(prog="plantroom thing")
    subcommand(subcommands(top), "show", "show it", lambda _options: 7)
    return top


def test_a_word_runs_its_function_and_takes_the_global_options() -> None:
    options = parser().parse_args(["show", "--json", "--state", "/s"])
    assert options.run(options) == 7
    assert (options.json, str(layout_of(options).state)) == (True, "/s")


def test_a_wrong_word_is_one_error_that_names_the_help() -> None:
    with pytest.raises(UsageError, match="plantroom thing --help"):
        parser().parse_args(["nonsense"])


def test_options_that_were_not_given_do_not_override_those_before_the_command() -> None:
    single = Parser(prog="plantroom")
    runs(single, lambda _options: 0)
    given = argparse.Namespace(state="/before", json=True, debug=False)
    assert single.parse_args([], given).state == "/before"


def test_a_spiffe_id_is_read_or_named() -> None:
    assert spiffe_id("spiffe://a.b/agent/c").name == "c"
    with pytest.raises(argparse.ArgumentTypeError, match="spiffe://"):
        spiffe_id("c")
