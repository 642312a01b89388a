"""A TPM 2.0 chip, spoken to in its own commands: no library, no daemon, no cryptography here.

`/dev/tpmrm0` is the kernel's resource manager; `unix:PATH` and `tcp://HOST:PORT` are the data
channels of swtpm. Source: TCG TPM 2.0 Library specification, part 3.
"""

import os
import socket
import struct
from types import TracebackType
from typing import Final, Self

from plantroom.certs.tpm_wire import NULL, Reader, selection, sized
from plantroom.wire.errors import StorageError, UnreachableError

TIMEOUT_S: Final = 60.0  # making an RSA key takes a chip up to half a minute
_RESPONSE_BYTES_MAX: Final = 4096
_NV_READ_BYTES: Final = 512
_CERTIFICATE_BYTES_MAX: Final = 8192
_ENDORSEMENT, _OWNER, _RH_NULL, _PASSWORD = 0x4000000B, 0x40000001, 0x40000007, 0x40000009
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_BUSY = frozenset({0x922, 0x908, 0x90A})  # RETRY, YIELDED, TESTING: ask the same again
_TRIES = 20
_SHA256 = 0x0B
_TRANSIENT_FIRST, _CAP_HANDLES, _HANDLES_MAX = 0x80000000, 1, 64
# The commands, by their names in part 3.
_CREATE_PRIMARY, _READ_PUBLIC, _FLUSH_CONTEXT = 0x131, 0x173, 0x165
_NV_READ_PUBLIC, _NV_READ = 0x169, 0x14E
_START_AUTH_SESSION, _POLICY_SECRET, _ACTIVATE_CREDENTIAL = 0x176, 0x151, 0x147
_QUOTE, _PCR_READ, _GET_CAPABILITY = 0x158, 0x17E, 0x17A


class TpmError(StorageError):
    """The chip refused a command; `code` is its answer (part 2, 6.6)."""

    def __init__(self, code: int, command: int, where: str) -> None:
        super().__init__(
            f"TPM refused command 0x{command:x} with 0x{code:x}",
            where=where,
            remedy="see part 2, section 6.6 of the TPM 2.0 specification for the code",
        )
        self.code = code


def _authorisation(handle: int = _PASSWORD, attributes: int = 1) -> bytes:
    return struct.pack(">IHBH", handle, 0, attributes, 0)


class Tpm:
    """An open chip; a context manager. One thread, one process at a time.

    Raises:
        UnreachableError: when there is no chip, or it does not answer.
    """

    def __init__(self, place: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.place = place
        self._file = -1
        self._socket: socket.socket | None = None
        try:
            if place.startswith(("unix:", "tcp://")):
                self._socket = _connect(place, timeout_s)
            else:
                self._file = os.open(place, os.O_RDWR | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        if self._socket is not None:
            try:
                self._flush_left_over()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; idempotent."""
        if self._socket is not None:
            self._socket.close()
        elif self._file >= 0:
            os.close(self._file)
            self._file = -1

    # keys

    def create_primary(self, template: bytes) -> tuple[int, bytes]:
        """Make the key that this chip makes of the template, always the same; handle and public."""
        sensitive = sized(sized(b"") + sized(b""))
        (handle,), answer = self._command(
            _CREATE_PRIMARY,
            (_ENDORSEMENT,),
            (_authorisation(),),
            sensitive + sized(template) + sized(b"") + struct.pack(">I", 0),
            handles_out=1,
        )
        return handle, answer.sized()

    def read_public(self, handle: int) -> bytes:
        """Return the public area of a key."""
        return self._command(_READ_PUBLIC, (handle,))[1].sized()

    def flush(self, handle: int) -> None:
        """Forget a key or a session."""
        self._command(_FLUSH_CONTEXT, parameters=struct.pack(">I", handle))

    # proofs

    def activate_credential(self, ak: int, ek: int, credential: bytes, seed: bytes) -> bytes:
        """Return the secret that was sealed to this EK and to this AK's name."""
        session = self._policy_session()
        _, answer = self._command(
            _ACTIVATE_CREDENTIAL,
            (ak, ek),
            (_authorisation(), _authorisation(session, 0)),  # 0: the session ends with it
            sized(credential) + sized(seed),
        )
        return answer.sized()

    def quote(self, ak: int, extra: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Return what the chip says of its registers, and the AK's signature over it."""
        parameters = sized(extra) + struct.pack(">H", NULL) + selection(pcrs)
        _, answer = self._command(_QUOTE, (ak,), (_authorisation(),), parameters)
        said, signature = answer.sized(), answer.rest()
        return said, signature[:-5]  # behind it the response's empty authorisation

    def pcr_read(self, pcr: int) -> bytes:
        """Return a register of the bank of SHA-256."""
        _, answer = self._command(_PCR_READ, parameters=selection((pcr,)))
        answer.raw(4 + 4 + 2 + 1 + 3)  # update counter, and the selection again
        if answer.number(4) != 1:
            raise TpmError(0, _PCR_READ, self.place)
        return answer.sized()

    def nv_read(self, index: int) -> bytes:
        """Return what is stored at an index: the EK's certificate.

        Raises:
            TpmError: also when nothing is stored there.
        """
        public = Reader(self._command(_NV_READ_PUBLIC, (index,))[1].sized())
        public.raw(4 + 2 + 4)
        public.sized()
        size, data = min(public.number(2), _CERTIFICATE_BYTES_MAX), b""
        while len(data) < size:
            span = struct.pack(">HH", min(_NV_READ_BYTES, size - len(data)), len(data))
            data += self._command(_NV_READ, (_OWNER, index), (_authorisation(),), span)[1].sized()
        return data

    def _policy_session(self) -> int:
        """Begin the session that an EK asks for: who has the endorsement's authorisation."""
        nonce = sized(os.urandom(16))
        parameters = nonce + sized(b"") + b"\x01" + struct.pack(">HH", NULL, _SHA256)
        (session,), _ = self._command(
            _START_AUTH_SESSION, (_RH_NULL, _RH_NULL), parameters=parameters, handles_out=1
        )
        nothing = sized(b"") * 3 + struct.pack(">i", 0)
        self._command(_POLICY_SECRET, (_ENDORSEMENT, session), (_authorisation(),), nothing)
        return session

    def _flush_left_over(self) -> None:
        """Drop what a killed client left: swtpm has no resource manager, and room for three."""
        for first in (_TRANSIENT_FIRST, 0x02000000, 0x03000000):
            span = struct.pack(">III", _CAP_HANDLES, first, _HANDLES_MAX)
            _, answer = self._command(_GET_CAPABILITY, parameters=span)
            answer.raw(1 + 4)
            for _ in range(answer.number(4)):
                self.flush(answer.number(4))

    # bytes

    def _command(
        self,
        command: int,
        handles: tuple[int, ...] = (),
        sessions: tuple[bytes, ...] = (),
        parameters: bytes = b"",
        *,
        handles_out: int = 0,
    ) -> tuple[list[int], Reader]:
        body = b"".join(struct.pack(">I", handle) for handle in handles)
        if sessions:
            area = b"".join(sessions)
            body += struct.pack(">I", len(area)) + area
        body += parameters
        tag = _SESSIONS if sessions else _NO_SESSIONS
        message = struct.pack(">HII", tag, 10 + len(body), command) + body
        for _ in range(_TRIES):
            answer = Reader(self._exchange(message))
            answer_tag, _, code = answer.number(2), answer.number(4), answer.number(4)
            if code not in _BUSY:
                break
        if code:
            raise TpmError(code, command, self.place)
        found = [answer.number(4) for _ in range(handles_out)]
        if answer_tag == _SESSIONS:
            answer.number(4)
        return found, answer

    def _exchange(self, message: bytes) -> bytes:
        try:
            if self._socket is None:
                os.write(self._file, message)  # returns when the chip is done: the kernel's bound
                return os.read(self._file, _RESPONSE_BYTES_MAX)
            self._socket.sendall(message)
            return self._receive(self._socket)
        except OSError as error:
            raise self._gone(error) from error

    def _receive(self, link: socket.socket) -> bytes:
        data = b""
        while len(data) < 10 or len(data) < int.from_bytes(data[2:6], "big"):
            part = link.recv(_RESPONSE_BYTES_MAX)
            if not part or len(data) > _RESPONSE_BYTES_MAX:
                raise ConnectionResetError("it hung up")
            data += part
        return data

    def _gone(self, error: Exception) -> UnreachableError:
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return UnreachableError(
            f"TPM does not answer: {what}",
            where=self.place,
            remedy="check identity.tpm, that the kernel has the chip, and that the agent's user "
            "is in its group (tss)",
        )


def _connect(place: str, timeout_s: float) -> socket.socket:
    kind, _, rest = place.partition(":")
    if kind == "unix":
        family, address = socket.AF_UNIX, rest
        link = socket.socket(family)
        try:
            link.settimeout(timeout_s)
            link.connect(address)
        except BaseException:
            link.close()
            raise
        return link
    host, _, port = rest.removeprefix("//").rpartition(":")
    return socket.create_connection((host, int(port)), timeout_s)
