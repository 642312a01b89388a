"""Whether every replayed row is in the cloud store, and the ledger closes.

A replaying device says in its presence message how many rows it has numbered and whether the
recording is over; the books say what is stored.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from plantroom.lab import ask, ledger
from plantroom.lab.audit import Account
from plantroom.lab.building import Device
from plantroom.lab.layout import Layout
from plantroom.wire.errors import (
    CheckFailedError,
    PlantroomError,
    StorageError,
    UnreachableError,
)

REST_S: Final = 180.0  # the books are compared every two minutes


class Replayed:
    """Watches the replaying devices of a building."""

    def __init__(
        self,
        layout: Layout,
        gateway_http: int,
        devices: tuple[Device, ...],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout = layout
        self._gateway_http = gateway_http
        self._wanted = {device.name: str(device.spiffe_id) for device in devices if device.replay}
        self._known: dict[str, Any] = {}
        self._now_s = now_s
        self._rest: tuple[str, float] | None = None  # what is wrong, and since when
        self.progress = "nothing is replayed"

    def is_stored(self, progress: Callable[[str], None]) -> bool:
        """Look once, and say how far it is.

        Raises:
            CheckFailedError: when all is over and a row is not in the store, or a book stays open.
            StorageError: when the books cannot be read, and that lasts.
        """
        rows = self._known = self._rows()
        numbered = sum(int(info.get("rows", 0)) for info in rows.values())
        over = [name for name, info in rows.items() if info.get("replay") == "done"]
        self.progress = f"{numbered} rows taken, {len(over)} of {len(self._wanted)} replays over"
        progress(self.progress)
        if len(over) < len(self._wanted):
            return False
        return self._books_close({name: int(rows[name]["rows"]) for name in over})

    def left_out(self) -> Iterator[str]:
        """Say of each recording how much of it could not be read."""
        for name, info in sorted(self._known.items()):
            rows, cells = int(info.get("rejected", 0)), int(info.get("rejected_cells", 0))
            if rows or cells:
                yield f"{name}: {rows} rows and {cells} cells of {info.get('file')} were left out"

    def _rows(self) -> dict[str, Any]:
        try:
            latest = ask.get_json(self._gateway_http, "/api/latest")
        except UnreachableError:
            return {}
        return {
            one["device"]: one["info"] for one in latest["devices"] if one["device"] in self._wanted
        }

    def _books_close(self, rows: dict[str, int]) -> bool:
        try:
            accounts = ledger.accounts(self._layout)
        except StorageError as error:  # a disk that fails, a file that is being set aside
            self._wait_for_an_end_of(error)
            return False
        if any(account.queued or account.at_sensor for account in accounts):
            self.progress, self._rest = "the last rows are on their way", None
            return False
        failure = self._fault(accounts) or self._missing(accounts, rows)
        if failure is not None:
            self._wait_for_an_end_of(failure)
        return failure is None

    def _fault(self, accounts: Iterable[Account]) -> CheckFailedError | None:
        for account in accounts:
            for first, last, what in account.faults:
                return CheckFailedError(
                    f"the ledger does not close: {what}",
                    where=f"{account.device}, epoch {account.epoch}, {first} to {last}",
                    remedy="see all of it: plantroom ledger verify",
                )
        return None

    def _missing(
        self, accounts: Iterable[Account], rows: dict[str, int]
    ) -> CheckFailedError | None:
        """Say which rows are not stored.

        Raises:
            CheckFailedError: when the books say that they never will be.
        """
        for name, wanted in rows.items():
            own = [account for account in accounts if account.device == self._wanted[name]]
            stored, excused = _held(own), _excused(own)
            missing = CheckFailedError(
                f"{wanted - stored} of {wanted} rows are not in the store"
                + (": they were evicted or quarantined" if stored + excused >= wanted else ""),
                where=name,
                remedy="see which and why: plantroom ledger export",
            )
            if stored + excused < wanted:
                return missing
            if stored < wanted:
                raise missing
        return None

    def _wait_for_an_end_of(self, failure: PlantroomError) -> None:
        """Wait while it may mend itself: holes are asked for every few minutes, and come again.

        Raises:
            PlantroomError: it, when nothing has moved for that long.
        """
        self.progress, now_s = str(failure), self._now_s()
        if self._rest is None or self._rest[0] != self.progress:
            self._rest = self.progress, now_s
        if now_s - self._rest[1] >= REST_S:
            raise failure


def _held(accounts: list[Account]) -> int:
    return sum(account.cloud.held.count for account in accounts if account.cloud is not None)


def _excused(accounts: list[Account]) -> int:
    return sum(account.cloud.excused.count for account in accounts if account.cloud is not None)
