"""Identity of a stand-alone broker: PEM files that another tool may rotate under way."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plantroom.broker.settings import IdentitySection
from plantroom.wire.errors import ConfigError
from plantroom.wire.identity import Principal
from plantroom.wire.tls import check_signers, peer_id

LOGGER = logging.getLogger("plantroom.broker.pem")
Check = Callable[[Any], None]


def make_context(settings: IdentitySection) -> ssl.SSLContext:
    """Make a server context from the files.

    Raises:
        ConfigError: when one cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a ticket would outlive the certificate
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_roots:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(settings.client_roots)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot load the identity: {error.strerror or error}",
            where=f"{settings.certificate}, {settings.key}, {settings.client_roots}",
            remedy="set identity.certificate, identity.key and identity.client_roots, "
            "or listen.tls = false",
        ) from error
    return context


class PemContext:
    """A listener's context that is replaced when its files change; live connections stay."""

    def __init__(self, settings: IdentitySection) -> None:
        self._settings = settings
        self._stamp = self._stamps()
        self.context = make_context(settings)
        self._current = self.context
        self.context.sni_callback = self._swap  # called without SNI too

    def _stamps(self) -> tuple[int, ...]:
        names = (self._settings.certificate, self._settings.key, self._settings.client_roots)
        return tuple(Path(n).stat().st_mtime_ns for n in names if n and Path(n).exists())

    def reload(self) -> bool:
        """Load the files again if they have changed; say whether they have."""
        stamp = self._stamps()
        if stamp == self._stamp:
            return False
        try:
            self._current = make_context(self._settings)
        except ConfigError as error:  # half written: looked at again the next time
            LOGGER.warning("the old certificate stays: %s", error)
            return False
        self._stamp = stamp
        return True

    def _swap(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def admit(connection: Any, *, check: Check | None = None) -> Principal | None:
    """Return who the verified peer is; None where no client certificates are asked for.

    `check` is what else is to be checked of its TLS connection.

    Raises:
        IdentityError: when the certificate has no SPIFFE ID, or one of a trust domain that is not
            that of its root.
    """
    if connection.context.verify_mode != ssl.CERT_REQUIRED:
        return None
    if check is not None:
        check(connection)
    found = peer_id(connection)
    check_signers(connection, found)
    certificate = connection.getpeercert() or {}
    return Principal(
        spiffe_id=found,
        serial=str(certificate.get("serialNumber", "")),
        not_after_s=int(ssl.cert_time_to_seconds(certificate.get("notAfter", ""))),
    )
