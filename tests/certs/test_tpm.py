"""A chip that is not there or does not behave; a real one is in test_attestor_tpm."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.certs.tpm import Tpm, TpmError
from plantroom.certs.tpm_wire import sized
from plantroom.wire.errors import UnreachableError

EMPTY = struct.pack(">BII", 0, 1, 0)  # no handles


def answer(body: bytes = b"", code: int = 0) -> bytes:
    return struct.pack(">HII", 0x8001, 10 + len(body), code) + body


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A socket that gives these answers, one a command, then hangs up."""
    answers: list[bytes] = [answer(EMPTY)] * 3
    path = tmp_path / "tpm"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(10)

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                link.settimeout(10)
                while answers:
                    if not link.recv(4096):
                        return
                    link.sendall(answers.pop(0))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix:{path}", answers
        finally:
            answers.clear()
            thread.join(10)


@pytest.mark.parametrize(
    "where", ["/no/such/tpm", "unix:/no/such/tpm", "tcp://127.0.0.1:1", "tcp://x"]
)
def test_a_chip_that_is_not_there_is_named_with_what_to_do(where: str) -> None:
    with pytest.raises(UnreachableError, match=r"TPM does not answer.*identity\.tpm"):
        Tpm(where)


def test_a_refusal_and_a_busy_chip(place: tuple[str, list[bytes]]) -> None:
    where, answers = place
    answers += [answer(code=0x922), answer(sized(b"public")), answer(code=0x18B)]
    with Tpm(where) as tpm:
        assert tpm.read_public(1) == b"public"  # asked again
        with pytest.raises(TpmError, match="0x18b") as refused:
            tpm.read_public(1)
        assert refused.value.code == 0x18B
        with pytest.raises(UnreachableError, match=r"hung up|reset|Broken"):
            tpm.read_public(1)


def test_what_an_earlier_client_left_is_flushed(place: tuple[str, list[bytes]]) -> None:
    where, answers = place
    answers[0] = answer(struct.pack(">BIII", 0, 1, 1, 0x80000000))
    answers.insert(1, answer())
    with Tpm(where):
        assert not answers
