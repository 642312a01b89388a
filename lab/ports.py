"""The six TCP ports of a building and its cloud on one machine, counted from one base."""

import contextlib
import dataclasses
import errno
import socket
from dataclasses import dataclass

from plantroom.wire.errors import ConfigError

HOST = "127.0.0.1"
BASE_DEFAULT = 18830
BASE_MIN, BASE_MAX = 1024, 65529


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Who listens where, on the loopback address."""

    gateway_mqtt: int
    gateway_enrol: int
    gateway_http: int
    cloud_mqtt: int
    cloud_enrol: int
    cloud_http: int

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Count from `base`."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: base + offset for offset, name in enumerate(names)})

    def check_free(self) -> None:
        """Bind each port once.

        Raises:
            ConfigError: naming the first one that is taken.
        """
        for name, port in dataclasses.asdict(self).items():
            with contextlib.closing(socket.socket()) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                    probe.listen(1)
                except OSError as error:
                    raise _taken(name, port, error) from error


def _taken(name: str, port: int, error: OSError) -> ConfigError:
    taken = error.errno == errno.EADDRINUSE
    return ConfigError(
        f"port {port} ({name.replace('_', ' ')}) "
        + ("is taken" if taken else f"cannot be used: {error.strerror}"),
        where=f"{HOST}:{port}",
        remedy="free it or give other ports with --port-base",
    )
