"""The enrolment port: `POST /enrol`, `POST /renew` and `GET /bundle` over HTTPS.

TLS 1.3; a client certificate is asked for and needed for `/renew` only. OpenSSL does not look at
times here, so that a late one may come back (`plantroom.certs.window` does).
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from plantroom.certs import bundle, window
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment import Enrolment, Grant
from plantroom.certs.https import HttpsLimits, HttpsServer, Request, RequestRefusedError, Response
from plantroom.certs.registry import Registry
from plantroom.wire import tls
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, IdentitySource, TrustBundle
from plantroom.wire.metrics import Metric

AUDIT = logging.getLogger("plantroom.certs.audit")
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME
_BAD_REQUEST = frozenset({"bad-request", "csr-bad", "csr-signature", "csr-key"})


def enrolment_context(identity: Identity, trust_domain: str) -> ssl.SSLContext:
    """Make the listener's context: it asks for certificates of this trust domain only."""
    own = {trust_domain: identity.bundles[trust_domain]}
    context = tls.server_context(
        Identity(svid=identity.svid, bundles=own, revision=identity.revision)
    )
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= NO_CHECK_TIME
    return context


class EnrolmentServer:
    """Enrols and renews for one trust domain; an async context manager, listening after `start`.

    `source` says who this server is, and which bundles askers get.
    """

    def __init__(  # noqa: PLR0913 -- limits are given by keyword
        self,
        authority: Authority,
        registry: Registry,
        source: IdentitySource,
        *,
        clock: Clock | None = None,
        late_s_max: int = window.LATE_S_MAX,
        limits: HttpsLimits | None = None,
    ) -> None:
        self._authority = authority
        self._source = source
        self._enrolment = Enrolment(
            authority,
            registry,
            bundles=self._bundles,
            clock=clock or SystemClock(),
            late_s_max=late_s_max,
        )
        self._context: tuple[int, ssl.SSLContext] | None = None
        self._https = HttpsServer(self._answer, context=self._current_context, limits=limits)
        self.granted = 0
        self.granted_late = 0

    async def __aenter__(self) -> Self:
        await self._https.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._https.__aexit__(kind, failure, traceback)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the bound port.

        Raises:
            ConfigError: when the address cannot be bound.
        """
        return await self._https.start(host, port)

    def metrics(self) -> list[Metric]:
        """Return what was granted and refused so far."""
        refused = "plantroom_enrolment_refused_total"
        return [
            Metric("plantroom_enrolment_granted_total", "counter", "SVIDs given out", self.granted),
            Metric(
                "plantroom_enrolment_late_total",
                "counter",
                "Renewals of an expired SVID",
                self.granted_late,
            ),
            *(
                Metric(refused, "counter", "Refused, by reason", count, {"reason": reason})
                for reason, count in sorted(self._https.refusals.items())
            ),
        ]

    def _bundles(self) -> Mapping[str, TrustBundle]:
        return self._source.current().bundles

    def _current_context(self) -> ssl.SSLContext:
        identity = self._source.current()
        if self._context is None or self._context[0] != identity.revision:
            context = enrolment_context(identity, self._authority.trust_domain)
            self._context = (identity.revision, context)
        return self._context[1]

    async def _answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/bundle":
                return Response(status=200, body=bundle.to_json(self._authority.bundle()))
            case "POST", "/enrol":
                return await self._enrol(request)
            case "POST", "/renew":
                return await self._renew(request)
            case _, "/bundle" | "/enrol" | "/renew":
                raise RequestRefusedError(405, "method")
        raise RequestRefusedError(404, "not-found")

    async def _enrol(self, request: Request) -> Response:
        try:
            grant = await asyncio.to_thread(self._enrolment.enrol, request.body)
        except IdentityError as error:
            raise _refused(error, error.where) from error
        return self._granted("enrolled", grant, request)

    async def _renew(self, request: Request) -> Response:
        who = ""
        try:
            peer = self._enrolment.admit(request.connection, self._source.current())
            who = str(peer.principal.spiffe_id)
            grant = await asyncio.to_thread(self._enrolment.renew, peer, request.body)
        except IdentityError as error:
            raise _refused(error, who or error.where) from error
        return self._granted("renewed", grant, request)

    def _granted(self, what: str, grant: Grant, request: Request) -> Response:
        self.granted += 1
        self.granted_late += grant.late_s > 0
        AUDIT.info(
            "%s peer=%s id=%s serial=%s not_after_s=%d late_s=%d",
            what,
            request.peer,
            grant.issued.spiffe_id,
            grant.issued.serial,
            grant.issued.not_after_s,
            grant.late_s,
        )
        return Response(status=200, body=grant.to_json())


def _refused(error: IdentityError, who: str) -> RequestRefusedError:
    status = 400 if error.reason in _BAD_REQUEST else 403
    return RequestRefusedError(status, error.reason, what=error.what, where=who)
