"""Words for failed handshakes; real ones are in the tests of the listeners."""

import ssl

import pytest

from plantroom.wire.handshake import refusal_reason


def ssl_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "text")
    error.reason = reason  # type: ignore[assignment]
    return error


def verify_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "text")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (verify_error(10), "expired"),
        (verify_error(9), "not-yet-valid"),
        (verify_error(26), "extended-key-usage"),
        (verify_error(1234), "unverified"),
        (ssl_error("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "no-certificate"),
        (ssl_error("UNSUPPORTED_PROTOCOL"), "tls-version"),
        (ssl_error("HTTP_REQUEST"), "not-tls"),
        (ssl_error("NO_SHARED_CIPHER"), "no-shared-cipher"),
        (ssl_error(None), "tls"),
        (TimeoutError(), "timeout"),
        (ConnectionAbortedError("SSL handshake is taking longer than 10 seconds"), "timeout"),
        (ConnectionResetError("reset"), "cut"),
        (EOFError(), "cut"),
    ],
)
def test_every_failure_has_a_word(error: BaseException, word: str) -> None:
    assert refusal_reason(error) == word
