"""OpenSSL's libcrypto through ctypes: the copy that `ssl` has loaded already, where it can be had.

`cryptography` brings an OpenSSL of its own, 9 MB of it; this one costs a device about 1 MiB.
"""

import _ssl
import ctypes
from collections.abc import Mapping

LIBCRYPTO = "libcrypto.so.3"
Signatures = Mapping[str, tuple[object, tuple[object, ...]]]


def load(functions: Signatures, name: str | None = None) -> ctypes.CDLL:
    """Return the library with these functions' results and arguments declared.

    Raises:
        OSError, AttributeError: when it is not there, or older than OpenSSL 3.
    """
    library = ctypes.CDLL(name) if name else _loaded(next(iter(functions)))
    for function, (result, arguments) in functions.items():
        call = getattr(library, function)
        call.restype, call.argtypes = result, arguments
    return library


def _loaded(probe: str) -> ctypes.CDLL:
    """Reach it through what links it: so no second copy is loaded, whatever paths say."""
    file = getattr(_ssl, "__file__", None)  # none where ssl is a part of the interpreter
    if file is not None:
        library = ctypes.CDLL(file)
        if hasattr(library, probe):
            return library
    return ctypes.CDLL(LIBCRYPTO)
