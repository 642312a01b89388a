"""Start the short helper process that makes a key and a CSR, and take them from its pipe.

`os.posix_spawn` and not `subprocess`: the device has no other use for that module.
"""

import os
import select
import signal
import sys
import time
from dataclasses import dataclass

from plantroom.wire.errors import StorageError
from plantroom.wire.spiffe import SpiffeId

_OUTPUT_BYTES_MAX = 16 * 1024
_MARK = b"-----BEGIN CERTIFICATE REQUEST-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAndRequest:
    """A private key (PKCS#8) and the CSR that proves it, both PEM."""

    key_pem: bytes
    csr_pem: bytes


def make(spiffe_id: SpiffeId, *, timeout_s: float = 30.0) -> KeyAndRequest:
    """Make a key and its CSR; takes about 50 ms.

    Raises:
        StorageError: when the helper cannot be started, fails, or takes too long.
    """
    read_end, write_end = os.pipe()  # both close-on-exec
    command = [sys.executable, "-m", "plantroom.certs.csr", str(spiffe_id)]
    try:
        process = os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)],
        )
    except OSError as error:
        os.close(read_end)
        raise _failed(f"cannot be started: {error.strerror}") from error
    finally:
        os.close(write_end)
    try:
        output = _read_all(read_end, time.monotonic() + timeout_s)
    except BaseException:
        os.kill(process, signal.SIGKILL)
        raise
    finally:
        os.close(read_end)
        _, status = os.waitpid(process, 0)
    key_pem, mark, rest = output.partition(_MARK)
    if status or not mark:
        raise _failed(f"ended with status {os.waitstatus_to_exitcode(status)}")
    return KeyAndRequest(key_pem=key_pem, csr_pem=mark + rest)


def _read_all(handle: int, until_s: float) -> bytes:
    output = b""
    while len(output) <= _OUTPUT_BYTES_MAX:
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not select.select([handle], [], [], left_s)[0]:
            raise _failed("took too long")
        part = os.read(handle, _OUTPUT_BYTES_MAX)
        if not part:
            return output
        output += part
    raise _failed("printed too much")


def _failed(what: str) -> StorageError:
    return StorageError(
        f"the helper process that makes keys {what}",
        where=f"{sys.executable} -m plantroom.certs.csr",
        remedy="run it by hand to see why",
    )
