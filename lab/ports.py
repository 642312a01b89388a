"""The seven TCP ports of a building and its cloud on one machine, counted from one base."""

import contextlib
import dataclasses
import errno
import socket
import time
from dataclasses import dataclass

from plantroom.wire.errors import ConfigError

HOST = "127.0.0.1"
BASE_DEFAULT = 18830
BASE_MIN, BASE_MAX = 1024, 65528
RETRY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Who listens where, on the loopback address."""

    gateway_mqtt: int
    gateway_enrol: int
    gateway_http: int
    cloud_mqtt: int
    cloud_enrol: int
    cloud_http: int
    gateway_policy: int = 0  # any, where nobody has to find it

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Count from `base`."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: base + offset for offset, name in enumerate(names)})

    def check_free(self, *, patience_s: float = 0.0) -> None:
        """Bind each port once; what has just been killed gets `patience_s` to be gone.

        Raises:
            ConfigError: naming the first one that is taken.
        """
        give_up_s = time.monotonic() + patience_s
        for name, port in dataclasses.asdict(self).items():
            while (error := _bind_error(port)) is not None:
                if time.monotonic() >= give_up_s:
                    raise _taken(name, port, error)
                time.sleep(RETRY_S)


def _bind_error(port: int) -> OSError | None:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def _taken(name: str, port: int, error: OSError) -> ConfigError:
    taken = error.errno == errno.EADDRINUSE
    return ConfigError(
        f"port {port} ({name.replace('_', ' ')}) "
        + ("is taken" if taken else f"cannot be used: {error.strerror}"),
        where=f"{HOST}:{port}",
        remedy="free it or give other ports with --port-base",
    )
