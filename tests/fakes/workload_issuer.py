"""Our own Workload API server, in a thread with a loop of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.registry import Registry
from plantroom.certs.workload_offers import Offers
from plantroom.certs.workload_server import ServerLimits, WorkloadServer
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId

START_S = 60


class Issuer:
    """A server that runs elsewhere, as its test sees it."""

    def __init__(self, authority: Authority, registry: Registry, path: Path) -> None:
        self.authority = authority
        self.registry = registry
        self.path = path
        self.offers: Offers
        self.server: WorkloadServer
        self.loop: asyncio.AbstractEventLoop

    def look(self) -> None:
        """Let the server take in now what the test has changed in the registry."""
        asyncio.run_coroutine_threadsafe(self.offers.look(), self.loop).result(START_S)


@contextlib.contextmanager
def serving(  # noqa: PLR0913 -- what serves, where, and how much
    authority: Authority,
    registry: Registry,
    path: Path,
    *,
    federated: tuple[TrustBundle, ...] = (),
    limits: ServerLimits | None = None,
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
) -> Iterator[Issuer]:
    """Serve the entries of a registry until the end of the block."""
    issuer, ready = Issuer(authority, registry, path), threading.Event()
    stop: list[Callable[[], object]] = []
    failures: list[BaseException] = []

    async def main() -> None:
        issuer.loop = asyncio.get_running_loop()
        source = EmbeddedSource(
            authority,
            SpiffeId(authority.trust_domain, "agent/gateway"),
            bundles={one.trust_domain: one for one in federated},
        )
        issuer.offers = Offers(authority, registry, source)
        issuer.server = WorkloadServer(issuer.offers, path, limits=limits)
        task = asyncio.create_task(issuer.server.run(listening=ready.set))
        stop.append(lambda: issuer.loop.call_soon_threadsafe(task.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def work() -> None:
        try:
            run(main())
        except BaseException as error:  # noqa: BLE001 -- handed to the test
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(START_S)
        if not failures:
            yield issuer
    finally:
        if stop and not failures:
            stop[0]()
        thread.join(START_S)
    if failures:
        raise failures[0]
