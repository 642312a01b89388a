"""A TLS handshake in memory: who a server finds its client to be, or why it refuses."""

import ssl

from plantroom.certs import svid
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.handshake import refusal_reason
from plantroom.wire.identity import Identity, Svid
from plantroom.wire.spiffe import SpiffeId


def meet(server: Identity, shown: Svid) -> SpiffeId | str:
    """Let a client that trusts anybody show its chain; return its ID, or the refusal's word."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tls.load_svid(context, shown)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server)
    accepting = tls.server_context(server).wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(4):
            for end in (client, accepting):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return svid.verify_peer(accepting, server).spiffe_id
    except ssl.SSLError as error:
        return refusal_reason(error)
    except IdentityError as error:
        return error.reason
