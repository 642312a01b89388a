"""The enrolment port over HTTPS: `/enrol`, `/attest`, `/attested`, `/renew` and `/bundle`.

TLS 1.3; a client certificate is asked for and needed for `/renew` only. OpenSSL does not look at
times here, so that a late one may come back (`plantroom.certs.window` does).
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from plantroom.certs import bundle, window
from plantroom.certs.attestation import Attestation
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment import Enrolment, Grant
from plantroom.certs.https import HttpsLimits, HttpsServer, Request, RequestRefusedError, Response
from plantroom.certs.registry import Registry
from plantroom.certs.time_floor import NO_CHECK_TIME
from plantroom.wire import tls
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, IdentitySource, TrustBundle
from plantroom.wire.metrics import Metric

AUDIT = logging.getLogger("plantroom.certs.audit")
_STATUS = dict.fromkeys(("bad-request", "csr-bad", "csr-signature", "csr-key"), 400)
_STATUS |= {"tpm-structure": 400, "not-found": 404, "busy": 429}
T = TypeVar("T")
Granted = Callable[[Grant], None]


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

    `source` says who this server is, and which bundles askers get; `granted` hears of every SVID.
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
        attestation: Attestation | None = None,
        granted: Granted | None = None,
    ) -> None:
        self._authority = authority
        self._source = source
        self._enrolment = Enrolment(
            authority,
            registry,
            bundles=self._bundles,
            clock=clock or SystemClock(),
            late_s_max=late_s_max,
            attestation=attestation,
        )
        self._tell = granted
        self._worker = ThreadPoolExecutor(1, "certs.enrolment")  # a flood waits here, not others
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
        self._worker.shutdown(cancel_futures=True)

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

    def _bundle_of(self, trust_domain: str) -> Response:
        """Vouch for a trust domain that is known here: a campus does for its buildings."""
        own = self._authority.bundle()
        found = {**self._bundles(), own.trust_domain: own}.get(trust_domain)
        if found is None:
            raise RequestRefusedError(404, "no-bundle", where=trust_domain[:80])
        return Response(status=200, body=bundle.to_json(found))

    def _bundles(self) -> Mapping[str, TrustBundle]:
        return self._source.current().bundles

    def _current_context(self) -> ssl.SSLContext:
        identity = self._source.current()
        if self._context is None or self._context[0] != identity.revision:
            context = enrolment_context(identity, self._authority.trust_domain)
            self._context = (identity.revision, context)
        return self._context[1]

    async def _answer(self, request: Request) -> Response:
        rules, body, peer = self._enrolment, request.body, request.peer
        match request.method, request.path:
            case "GET", "/bundle":
                return Response(status=200, body=bundle.to_json(self._authority.bundle()))
            case "GET", path if path.startswith("/bundle/"):
                return self._bundle_of(path.removeprefix("/bundle/"))
            case "POST", "/enrol":
                grant = await self._decided(partial(rules.enrol, body, peer=peer))
                return self._granted("enrolled", grant, request)
            case "POST", "/attest":
                challenge = await self._decided(partial(rules.challenge, body, peer=peer))
                return Response(status=200, body=challenge)
            case "POST", "/attested":
                grant = await self._decided(partial(rules.attested, body))
                return self._granted("attested", grant, request)
            case "POST", "/renew":
                return await self._renew(request)
            case _, "/bundle" | "/enrol" | "/attest" | "/attested" | "/renew":
                raise RequestRefusedError(405, "method")
        raise RequestRefusedError(404, "not-found")

    async def _renew(self, request: Request) -> Response:
        try:
            peer = self._enrolment.admit(request.connection, self._source.current())
        except IdentityError as error:
            raise _refused(error, error.where) from error
        who = str(peer.principal.spiffe_id)
        grant = await self._decided(partial(self._enrolment.renew, peer, request.body), who)
        return self._granted("renewed", grant, request)

    async def _decided(self, decide: Callable[[], T], who: str = "") -> T:
        """Decide on the worker's thread; a refusal names who asked, as far as that is known."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, decide)
        except IdentityError as error:
            raise _refused(error, who or error.where) from error

    def _granted(self, what: str, grant: Grant, request: Request) -> Response:
        self.granted += 1
        self.granted_late += grant.late_s > 0
        if self._tell is not None:
            self._tell(grant)
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
    status = _STATUS.get(error.reason, 403)
    return RequestRefusedError(status, error.reason, what=error.what, where=who)
