import _ssl
import ctypes
from pathlib import Path

import pytest

from plantroom.certs import libcrypto

FUNCTIONS = {"EVP_sha256": (ctypes.c_void_p, ())}


def test_the_library_of_ssl_is_used_and_no_second_one_is_loaded() -> None:
    library = libcrypto.load(FUNCTIONS)
    assert library.EVP_sha256()
    maps = Path("/proc/self/maps").read_text(encoding="ascii").split()
    assert len({name for name in maps if "/libcrypto.so" in name}) <= 1


def test_an_interpreter_with_ssl_built_in_takes_the_systems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(_ssl, "__file__")
    assert libcrypto.load(FUNCTIONS).EVP_sha256()


def test_a_library_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot open"):
        libcrypto.load(FUNCTIONS, "libcrypto-that-is-not-there.so")
