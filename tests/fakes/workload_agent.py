"""SPIRE's agent as the tests play it, on gRPC's own library: each stream gets what it says."""

import contextlib
import importlib
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from spiffe._proto import workload_pb2

from plantroom.certs.authority import Authority
from plantroom.wire.identity import Svid

grpc: Any = importlib.import_module("grpc")  # it has no types
pb: Any = workload_pb2


def roots(authority: Authority) -> bytes:
    return b"".join(authority.bundle().roots_der)


def offer(svid: Svid, authority: Authority, hint: str = "") -> Any:
    key = serialization.load_pem_private_key(svid.key_pem, None)
    certificates = svid.chain_pem.decode().split("-----END CERTIFICATE-----\n")[:-1]
    return pb.X509SVID(
        spiffe_id=str(svid.spiffe_id),
        x509_svid=b"".join(
            ssl.PEM_cert_to_DER_cert(one + "-----END CERTIFICATE-----") for one in certificates
        ),
        x509_svid_key=key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        bundle=roots(authority),
        hint=hint,
    )


def response(*offers: Any, federated: Sequence[Authority] = ()) -> bytes:
    bundles: Mapping[str, bytes] = {f"spiffe://{one.trust_domain}": roots(one) for one in federated}
    data: bytes = pb.X509SVIDResponse(svids=offers, federated_bundles=bundles).SerializeToString()
    return data


class Agent:
    """Speaks at `path` until it is closed; None is PermissionDenied, as when there is no entry."""

    def __init__(self, path: Path, message: bytes | None) -> None:
        self._said = [message]
        self._news = threading.Condition()
        self.metadata: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool)
        handler = grpc.unary_stream_rpc_method_handler(self._fetch)
        self._server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": handler}),
        ))  # fmt: skip
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def _fetch(self, request: bytes, context: Any) -> Iterator[bytes]:
        assert request == b""
        self.metadata = dict(context.invocation_metadata())
        heard = 0
        while context.is_active():
            with self._news:
                if not self._news.wait_for(lambda: len(self._said) > heard, 0.05):  # noqa: B023 -- called at once
                    continue
                heard, message = len(self._said), self._said[-1]
            if message is None:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
            yield message or b""

    def say(self, message: bytes | None) -> None:
        """Say this from now on."""
        with self._news:
            self._said.append(message)
            self._news.notify_all()

    def close(self) -> None:
        self._server.stop(0).wait(10)
        self._pool.shutdown()


@contextlib.contextmanager
def agent_at(path: Path, message: bytes | None) -> Iterator[Agent]:
    with contextlib.closing(Agent(path, message)) as agent:
        yield agent
