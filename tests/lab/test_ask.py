import socket

import pytest

from plantroom.lab import ask
from plantroom.wire.errors import UnreachableError
from tests.lab.conftest import Answers


def test_a_document_is_returned(web: Answers) -> None:
    web.by_path["/api/status"] = {"site": "building-1"}
    assert ask.get_json(web.port, "/api/status") == {"site": "building-1"}


def test_an_answer_that_is_not_a_document_is_unreachable(web: Answers) -> None:
    web.by_path["/api/status"] = b"<html>"
    with pytest.raises(UnreachableError, match="not JSON"):
        ask.get_json(web.port, "/api/status")
    with pytest.raises(UnreachableError, match="answer 404"):
        ask.get_json(web.port, "/api/nothing")


def test_nobody_there_and_nobody_who_answers_are_unreachable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert not ask.is_healthy(port)
        silent.listen(1)
        with pytest.raises(UnreachableError, match=f"{port}/x"):
            ask.get(port, "/x", timeout_s=0.1)


def test_health_is_a_200(web: Answers) -> None:
    assert not ask.is_healthy(web.port)
    web.by_path["/healthz"] = b"ok\n"
    assert ask.is_healthy(web.port)
