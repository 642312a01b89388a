"""A TLS handshake in memory: who a server finds its client to be, or why it refuses."""

import ssl
from collections.abc import Callable
from typing import Any

from plantroom.certs import svid
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.handshake import refusal_reason
from plantroom.wire.identity import Identity, Principal, Svid
from plantroom.wire.spiffe import SpiffeId

Admit = Callable[[Any], Principal]


def meet(server: Identity, shown: Svid) -> SpiffeId | str:
    """Let a client that trusts anybody show its chain; return its ID, or the refusal's word."""
    return Caller(shown).calls(server)


class Caller:
    """A client that trusts anybody, and offers its last session again with every call."""

    def __init__(self, shown: Svid) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        tls.load_svid(self._context, shown)
        self.session: ssl.SSLSession | None = None

    def calls(self, server: Identity, admit: Admit | None = None) -> SpiffeId | str:
        """Call a server with this identity; return who it finds us to be, or why it refuses."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._context.wrap_bio(to_client, to_server, session=self.session)
        accepting = tls.server_context(server).wrap_bio(to_server, to_client, server_side=True)
        try:
            for _ in range(4):
                for end in (client, accepting):
                    try:
                        end.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
            accepting.write(b"x")  # a ticket would have come before this
            client.read(1)
            self.session = client.session
            return (admit(accepting) if admit else svid.verify_peer(accepting, server)).spiffe_id
        except ssl.SSLError as error:
            return refusal_reason(error)
        except IdentityError as error:
            return error.reason
