"""Fetch the bundles of other trust domains, again and again: https_spiffe, https_web, files.

Over https_spiffe the endpoint proves its SPIFFE ID by the bundle that is known of its own trust
domain, so that a root rotated there is followed here without anybody's help.
Source: SPIFFE Federation 4 and 5.
"""

import asyncio
import http.client
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from plantroom.certs import atomic, bundle, svid
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.federation_settings import Endpoint
from plantroom.certs.renewal import retry_after_s
from plantroom.wire.errors import IdentityError, PlantroomError, UnreachableError
from plantroom.wire.identity import Identity, TrustBundle

LOG = logging.getLogger("plantroom.certs.federation")
REFRESH_S_MIN, REFRESH_S_MAX = 1.0, 86_400.0
_READ_BYTES = 64 * 1024


@dataclass(slots=True)
class _Standing:
    """How it goes with one of them."""

    failures: int = 0
    trouble: str = ""


class Federation:
    """Keeps the bundles of these endpoints fresh.

    `identity` is ours, for the bundles; `refresh_s` 0 goes by each bundle's own hint. `alarm` hears
    of what is refused, not of what cannot be reached.
    """

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        endpoints: tuple[Endpoint, ...],
        keeper: BundleKeeper,
        *,
        identity: Callable[[], Identity],
        alarm: Callable[[str], Awaitable[object]],
        refresh_s: float,
        timeout_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._standings = {endpoint: _Standing() for endpoint in endpoints}
        self._keeper = keeper
        self._identity = identity
        self._alarm = alarm
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._chance = chance

    async def run(self) -> NoReturn:
        """Fetch for ever, each endpoint at its own pace."""
        async with asyncio.TaskGroup() as tasks:
            for endpoint, standing in self._standings.items():
                tasks.create_task(
                    self._follow(endpoint, standing), name=f"certs.federation-{endpoint.url}"
                )
            await asyncio.get_running_loop().create_future()
        raise AssertionError("it is only ever cancelled")

    async def _follow(self, endpoint: Endpoint, standing: _Standing) -> NoReturn:
        while True:
            wait_s = await self._once(endpoint, standing)
            await asyncio.sleep(wait_s)

    async def _once(self, endpoint: Endpoint, standing: _Standing) -> float:
        """Fetch once; return when to do so again."""
        try:
            known = replace(self._identity(), bundles=self._keeper.all())
            told = await asyncio.to_thread(fetch, endpoint, known, timeout_s=self._timeout_s)
            self._keeper.adopt(told)
        except (PlantroomError, OSError) as error:
            standing.failures += 1
            if str(error) != standing.trouble:
                standing.trouble = str(error)
                LOG.warning("bundle of %s not refreshed: %s", endpoint.trust_domain, error)
                if isinstance(error, IdentityError):
                    await self._alarm(f"{endpoint.url}: {error}")
            return retry_after_s(standing.failures, chance=self._chance())
        standing.failures, standing.trouble = 0, ""
        wanted_s = self._refresh_s or told.refresh_hint_s
        return min(REFRESH_S_MAX, max(REFRESH_S_MIN, wanted_s)) * (0.9 + 0.1 * self._chance())


def fetch(endpoint: Endpoint, known: Identity, *, timeout_s: float) -> TrustBundle:
    """Get the bundle; `known` holds the bundles by which an endpoint proves who it is. Blocks.

    Raises:
        IdentityError: when the endpoint is not who it should be, or what it says is no bundle.
        UnreachableError: when there is no answer in time.
        StorageError: when a file cannot be read.
    """
    url = urlsplit(endpoint.url)
    if url.scheme == "file":
        data = atomic.read(Path(unquote(url.path)), bytes_max=bundle.BUNDLE_BYTES_MAX)
        if data is None:
            raise UnreachableError("there is no such bundle file", where=endpoint.url)
        found = bundle.from_file(endpoint.trust_domain, data).get(endpoint.trust_domain)
        if found is None:
            raise IdentityError(
                "no bundle of this trust domain is in the file",
                reason="bad-bundle",
                where=endpoint.trust_domain,
            )
        return found
    context = _context(endpoint, known)
    connection = http.client.HTTPSConnection(
        url.hostname or "", url.port or 443, timeout=timeout_s, context=context
    )
    try:
        connection.connect()
        if endpoint.spiffe_id is not None:
            _check_endpoint(connection.sock, endpoint, known)
        target = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
        connection.request("GET", target, headers={"Accept": "application/json"})
        body = _body(connection.getresponse(), endpoint, time.monotonic() + timeout_s)
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(
            f"bundle endpoint cannot be verified: {error.verify_message}",
            reason="endpoint-unverified",
            where=endpoint.url,
            remedy="give its newest bundle with `plantroom identity bundle set`",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(
            f"bundle endpoint does not answer: {error or type(error).__name__}", where=endpoint.url
        ) from error
    finally:
        connection.close()
    return bundle.from_json(endpoint.trust_domain, body)


def _context(endpoint: Endpoint, known: Identity) -> ssl.SSLContext:
    if endpoint.spiffe_id is None:
        return ssl.create_default_context()  # SPIFFE Federation 5.2.1.4
    trust = known.bundles.get(endpoint.spiffe_id.trust_domain)
    if trust is None:
        raise IdentityError(
            "no bundle of the endpoint's trust domain is known",
            reason="no-bundle",
            where=endpoint.spiffe_id.trust_domain,
            remedy="give the first one with `plantroom identity bundle set`",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # SPIFFE Federation 5.2.2.4: the SPIFFE ID is the name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for root in trust.roots_der:
        context.load_verify_locations(cadata=root)
    return context


def _check_endpoint(connection: ssl.SSLSocket, endpoint: Endpoint, known: Identity) -> None:
    found = svid.verify_peer(connection, known).spiffe_id
    if found != endpoint.spiffe_id:
        raise IdentityError(
            f"bundle endpoint is {found}, not {endpoint.spiffe_id}",
            reason="wrong-peer",
            where=endpoint.url,
        )


def _body(response: http.client.HTTPResponse, endpoint: Endpoint, until_s: float) -> bytes:
    if response.status != 200:
        raise UnreachableError(f"bundle endpoint says {response.status}", where=endpoint.url)
    body = b""
    while part := response.read1(_READ_BYTES):
        body += part
        if len(body) > bundle.BUNDLE_BYTES_MAX or time.monotonic() > until_s:
            raise UnreachableError("bundle is too large or too slow", where=endpoint.url)
    return body
