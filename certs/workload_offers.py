"""What the embedded issuer gives to whom over the Workload API: entries, matched by selectors.

An SVID is made once for an entry, with a key of its own, and shared by every caller that the entry
is for; near half its life, or when the entry or the root has changed, the next one is made.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from plantroom.certs import embedded, pem, workload_attestor
from plantroom.certs.authority import Authority
from plantroom.certs.entry import Entry, Issued
from plantroom.certs.registry import Registry
from plantroom.certs.renewal import renew_at_s
from plantroom.certs.workload_messages import Offer, Offered, write_bundles, write_svids
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import IdentityError, PlantroomError, StorageError
from plantroom.wire.identity import IdentitySource, Svid
from plantroom.wire.unix_socket import Peer

LOG = logging.getLogger("plantroom.certs.workload")
ATTESTED_AT_ONCE = 4  # so that a flood of callers leaves threads to others
CHECK_S = 0.5  # a command's change to the registry is noticed within this
_PRIVATE_KEY = "PRIVATE KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """An SVID as it is handed out, and what it was made from."""

    chain_der: bytes
    key_der: bytes
    entry: Entry
    generation: object
    renew_at_s: float


class Offers:
    """Answers callers while `run` runs; `source` knows the bundles of the other trust domains."""

    def __init__(
        self,
        authority: Authority,
        registry: Registry,
        source: IdentitySource,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._authority = authority
        self._registry = registry
        self._source = source
        self._clock = clock or SystemClock()
        self._entries: tuple[Entry, ...] = ()
        self._denied: frozenset[str] = frozenset()
        self._hashed = False
        self._seen: object = None
        self._held: dict[str, _Held] = {}
        self._making = asyncio.Lock()
        self._attesting = asyncio.Semaphore(ATTESTED_AT_ONCE)
        self._news = asyncio.Event()

    async def run(self) -> NoReturn:
        """Notice changes for ever, and tell those who wait; what cannot be read changes nothing."""
        trouble = ""
        while True:
            try:
                await self.look()
            except PlantroomError as error:
                if str(error) != trouble:
                    LOG.error("registry cannot be read, offers stay: %s", error)  # noqa: TRY400 -- one line
                trouble = str(error)
            else:
                trouble = ""
            await asyncio.sleep(CHECK_S)

    async def look(self) -> None:
        """Take in what has changed since the last look.

        Raises:
            StorageError: when the registry cannot be read.
        """
        counter = await asyncio.to_thread(self._registry.counter)
        seen = (counter, self._authority.generation, self._source.current().revision)
        if seen == self._seen and not self._is_due():
            return
        self._entries = await asyncio.to_thread(self._registry.list)
        self._denied = frozenset((await asyncio.to_thread(self._registry.denials)).spiffe_ids)
        self._hashed = any(workload_attestor.wants_hash(one.selectors) for one in self._entries)
        names, now_s = {str(entry.spiffe_id) for entry in self._entries}, self._now_s()
        self._held = {
            name: held
            for name, held in self._held.items()
            if name in names and now_s < held.renew_at_s
        }
        self._seen = seen
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _is_due(self) -> bool:
        now_s = self._now_s()
        return any(held.renew_at_s <= now_s for held in self._held.values())

    @property
    def news(self) -> asyncio.Event:
        """Set when what a caller gets may be something else; to be taken before asking."""
        return self._news

    async def svids(self, peer: Peer) -> bytes | None:
        """Return the caller's X509SVIDResponse, None when no entry is for it."""
        entries = await self._entries_for(peer)
        offers = [offer for entry in entries if (offer := await self._offer(entry)) is not None]
        if not offers:
            return None
        own = self._authority.trust_domain
        federated = {name: roots for name, roots in self._roots().items() if name != own}
        return write_svids(Offered(svids=tuple(offers), federated=federated))

    async def bundles(self, peer: Peer) -> bytes | None:
        """Return the caller's X509BundlesResponse, None when no entry is for it."""
        return write_bundles(self._roots()) if await self._entries_for(peer) else None

    async def _entries_for(self, peer: Peer) -> list[Entry]:
        """Return the caller's entries; who seems to have none may have got one just now."""
        found = await self._known_entries_for(peer)
        if not found:
            await self.look()
            found = await self._known_entries_for(peer)
        return found

    async def _known_entries_for(self, peer: Peer) -> list[Entry]:
        async with self._attesting:
            found = await asyncio.to_thread(
                workload_attestor.selectors_of, peer, hashed=self._hashed
            )
        return [
            entry
            for entry in self._entries
            if workload_attestor.matches(entry.selectors, found)
            and entry.spiffe_id.trust_domain == self._authority.trust_domain
            and str(entry.spiffe_id) not in self._denied
        ]

    def _roots(self) -> dict[str, bytes]:
        bundles = {
            **self._source.current().bundles,
            self._authority.trust_domain: self._authority.bundle(),
        }
        return {name: b"".join(bundle.roots_der) for name, bundle in bundles.items()}

    async def _offer(self, entry: Entry) -> Offer | None:
        async with self._making:
            name = str(entry.spiffe_id)
            held = self._held.get(name)
            if held is None or not self._is_current(held, entry):
                held = await asyncio.to_thread(self._make, entry)
                if held is None:
                    return None
                self._held[name] = held
        return Offer(
            spiffe_id=name,
            chain_der=held.chain_der,
            key_der=held.key_der,
            roots_der=b"".join(self._authority.bundle().roots_der),
            hint=entry.hint,
        )

    def _is_current(self, held: _Held, entry: Entry) -> bool:
        return (
            held.entry == entry
            and held.generation == self._authority.generation
            and self._now_s() < held.renew_at_s
        )

    def _make(self, entry: Entry) -> _Held | None:
        """Issue, if the registry still admits it; an SVID that cannot be made is no one's."""
        generation = self._authority.generation
        try:
            self._registry.admitted(entry.spiffe_id)
            svid = embedded.issue_svid(
                self._authority, entry.spiffe_id, ttl_s=entry.ttl_s, dns=entry.dns, ips=entry.ips
            )
        except IdentityError as error:
            LOG.warning("no SVID for id=%s: %s", entry.spiffe_id, error)
            return None
        self._record(svid)
        return _Held(
            chain_der=_joined(pem.decode(pem.CERTIFICATE, svid.chain_pem)),
            key_der=_joined(pem.decode(_PRIVATE_KEY, svid.key_pem)),
            entry=entry,
            generation=generation,
            renew_at_s=renew_at_s(svid.not_before_s, svid.not_after_s, chance=random.random()),  # noqa: S311 -- jitter
        )

    def _record(self, svid: Svid) -> None:
        """Note what was issued; a full disk keeps nobody from an identity."""
        LOG.info("issued id=%s serial=%s", svid.spiffe_id, svid.serial)
        issued = Issued(
            spiffe_id=svid.spiffe_id,
            serial=svid.serial,
            at_us=self._clock.wall_us(),
            not_after_s=svid.not_after_s,
        )
        try:
            self._registry.record_issued(issued)
        except StorageError as error:
            LOG.warning("it cannot be noted that this was issued: %s", error)

    def _now_s(self) -> float:
        return self._clock.wall_us() / 1e6


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)
