"""Whether identities are renewed in time: what status, metrics and alarms say of SVIDs.

Two thirds of an SVID's life without a renewal raise `svid-overdue`, a renewal after its end raises
`svid-late`; the next renewal in time clears both. An issuer watches what it has issued, so a
device that cannot speak is seen too.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from cryptography import x509
from cryptography.x509.oid import NameOID

from plantroom.certs.enrolment import Grant
from plantroom.certs.holder import RunningSource
from plantroom.certs.registry import Registry
from plantroom.certs.svid_alarms import SvidAlarms
from plantroom.certs.time_floor import DOUBT_S, TimeFloor
from plantroom.wire.errors import IdentityError, PlantroomError
from plantroom.wire.identity import Svid
from plantroom.wire.metrics import Metric
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.certs.svid_watch")
OVERDUE: Final = "svid-overdue"
LATE: Final = "svid-late"
CHECK_S = 10.0
_EVENTS_MAX = 1000

Say = Callable[[str, SpiffeId, str], Awaitable[None]]
"""Rule, whose SVID, and what is wrong; the empty text: it is over."""


def overdue_at_s(not_before_s: int, not_after_s: int) -> float:
    """Return when an SVID should have been renewed at the latest: two thirds of its life."""
    return not_before_s + (not_after_s - not_before_s) * 2 / 3


def describe(source: RunningSource, now_s: float) -> dict[str, object] | None:
    """Say as JSON values who this is, by whom, until when, and how renewal goes; None: nobody."""
    schedule = source.renewals()
    trouble: dict[str, object] = {} if schedule is None else {"failures": schedule.failures}
    if schedule is not None and schedule.last_error is not None:
        trouble["last_error"] = str(schedule.last_error)
    try:
        svid = source.current().svid
    except IdentityError:
        return trouble or None
    return {
        "spiffe_id": str(svid.spiffe_id),
        "issuer": _issuer(svid),
        "serial": svid.serial,
        "not_before": format_us(svid.not_before_s * 1_000_000),
        "not_after": format_us(svid.not_after_s * 1_000_000),
        "renews_at": None if schedule is None else format_us(round(schedule.due_s * 1e6)),
        "overdue": now_s > overdue_at_s(svid.not_before_s, svid.not_after_s),
        **trouble,
    }


def _issuer(svid: Svid) -> str:
    leaf = x509.load_pem_x509_certificate(svid.chain_pem)
    return leaf.issuer.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})


class SvidWatch:
    """Watches one's own identities and those issued here; keeps the issuer's floor of time."""

    def __init__(
        self, sources: Sequence[RunningSource], alarms: SvidAlarms, *, floor: TimeFloor
    ) -> None:
        self._sources = sources
        self._alarms = alarms
        self._floor = floor
        self._late: asyncio.Queue[Grant] = asyncio.Queue(_EVENTS_MAX)
        self._overdue: dict[SpiffeId, int] = {}
        self._doubts = False

    def granted(self, grant: Grant) -> None:
        """Hear of an SVID that was given out."""
        if not self._late.full():
            self._late.put_nowait(grant)

    async def run(self, say: Say) -> NoReturn:
        """Look at everything for ever, and publish alarms by `say`; failures go to the log."""
        while True:
            try:
                await self.look(say)
            except PlantroomError as error:
                LOG.error("SVIDs cannot be watched: %s", error)  # noqa: TRY400 -- one line
            await asyncio.sleep(CHECK_S)

    async def look(self, say: Say) -> None:
        """Raise what is new, and clear what is over.

        Raises:
            StorageError: when the registry cannot be read or written.
        """
        await asyncio.to_thread(self._floor.keep)
        self._doubt_the_clock()
        raised = set(await asyncio.to_thread(self._alarms.raised))
        for rule, spiffe_id, text in [*self._came_late(raised), *await self._past(raised)]:
            await asyncio.to_thread(self._alarms.note, rule, spiffe_id, raised=bool(text))
            await say(rule, spiffe_id, text)

    def _doubt_the_clock(self) -> None:
        doubts = self._floor.doubt_s > DOUBT_S
        if doubts and not self._doubts:
            LOG.warning(
                "this machine's clock is %.0f s behind what is kept here, and SVIDs are signed as "
                "of then; if the clock is right: plantroom identity clock --accept",
                self._floor.doubt_s,
            )
        elif self._doubts and not doubts:
            LOG.info("this machine's clock and what is kept here are one again")
        self._doubts = doubts

    def _came_late(self, raised: set[tuple[str, SpiffeId]]) -> list[tuple[str, SpiffeId, str]]:
        found: list[tuple[str, SpiffeId, str]] = []
        for _ in range(self._late.qsize()):
            grant = self._late.get_nowait()
            spiffe_id = grant.issued.spiffe_id
            if grant.late_s > 0:
                found.append((LATE, spiffe_id, f"SVID was renewed {grant.late_s:.0f} s too late"))
                raised.add((LATE, spiffe_id))
            elif (LATE, spiffe_id) in raised:
                found.append((LATE, spiffe_id, ""))
                raised.discard((LATE, spiffe_id))
        return found

    async def _past(self, raised: set[tuple[str, SpiffeId]]) -> list[tuple[str, SpiffeId, str]]:
        now_s = self._floor.wall_us() / 1e6
        issued = await asyncio.to_thread(self._alarms.overdue, now_s)
        self._overdue = {one.spiffe_id: one.not_after_s for one in issued}
        why: dict[SpiffeId, str] = {}
        for source in self._sources:
            try:
                svid = source.current().svid
            except IdentityError:
                continue
            if now_s > overdue_at_s(svid.not_before_s, svid.not_after_s):
                self._overdue[svid.spiffe_id] = svid.not_after_s
                schedule = source.renewals()
                why[svid.spiffe_id] = "" if schedule is None else str(schedule.last_error or "")
        was = {spiffe_id for rule, spiffe_id in raised if rule == OVERDUE}
        new = [
            (OVERDUE, spiffe_id, _text(not_after_s, why.get(spiffe_id, "")))
            for spiffe_id, not_after_s in self._overdue.items()
            if spiffe_id not in was
        ]
        return new + [(OVERDUE, spiffe_id, "") for spiffe_id in was - self._overdue.keys()]

    def metrics(self) -> list[Metric]:
        """Return when one's own SVIDs end and renew, and how many are overdue."""
        found = [
            Metric(
                "plantroom_svids_overdue",
                "gauge",
                "Own or issued SVIDs past two thirds of their life.",
                len(self._overdue),
            ),
            Metric(
                "plantroom_clock_behind_seconds",
                "gauge",
                "How far this machine's clock is behind what it knows.",
                self._floor.behind_s,
            ),
        ]
        for source in self._sources:
            try:
                svid = source.current().svid
            except IdentityError:
                continue
            labels = {"spiffe_id": str(svid.spiffe_id), "issuer": _issuer(svid)}
            found.append(
                _gauge("expiry_timestamp_seconds", "When it expires.", svid.not_after_s, labels)
            )
            schedule = source.renewals()
            if schedule is not None:
                found += [
                    _gauge("renewal_timestamp_seconds", "When it renews.", schedule.due_s, labels),
                    _gauge("renewal_failures", "Failed in a row.", schedule.failures, labels),
                ]
        return found


def _gauge(name: str, what: str, value: float, labels: Mapping[str, str]) -> Metric:
    return Metric(f"plantroom_svid_{name}", "gauge", what, value, dict(labels))


def _text(not_after_s: int, why: str) -> str:
    text = f"SVID has not been renewed in time, it ends {format_us(not_after_s * 1_000_000)}"
    return f"{text}: {why}" if why else text


@contextlib.contextmanager
def opened(
    registry: Registry, sources: Sequence[RunningSource], floor: TimeFloor
) -> Iterator[SvidWatch]:
    """Open the watch beside a registry.

    Raises:
        StorageError: when the registry's file cannot be used.
    """
    with contextlib.closing(SvidAlarms(registry.path)) as alarms:
        yield SvidWatch(sources, alarms, floor=floor)
