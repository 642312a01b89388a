"""What has to hold at each commit of a gateway, seen as it happens."""

from collections.abc import Callable

from tests.sim.disk import Disk
from tests.sim.gateway import Gateway
from tests.sim.places import BrokenError
from tests.sim.truth import Truth


class Watch:
    """Looks at one gateway's disk after each commit; `broken` hears of what does not hold."""

    def __init__(
        self, gateway: Gateway, cloud: Disk, truth: Truth, broken: Callable[[BrokenError], None]
    ) -> None:
        self._gateway, self._disk, self._cloud = gateway, gateway.disk, cloud
        self._truth, self._broken = truth, broken
        self.namesakes: set[str] = set()  # stores of which there was a later state of this name
        self.begin()
        gateway.disk.committed = self._committed

    def begin(self) -> None:
        """Begin anew with a disk that was put in place of another."""
        self._dropped_seen, self._settled_seen = self._rows()
        self._disk.news.clear()
        self._store_known = ""

    def _rows(self) -> tuple[int, int]:
        (found,) = self._disk.rows(
            "SELECT (SELECT ifnull(max(rowid), 0) FROM dropped),"
            " (SELECT ifnull(max(rowid), 0) FROM settled)"
        )
        return int(found[0]), int(found[1])

    def _committed(self) -> None:
        if self._gateway.newest:
            self._truth.see_not_queued(self._disk)
        news = self._disk.news
        if "dropped" in news:
            self._nothing_in_the_air_was_dropped()
        if "settled" in news or not self._store_known:
            self._nothing_was_confirmed_by_a_former_store()
        if news:
            self._dropped_seen, self._settled_seen = self._rows()
            news.clear()

    def _nothing_in_the_air_was_dropped(self) -> None:
        bridge = self._gateway.bridge
        if bridge is None:
            return
        air = {
            row.id
            for state in bridge._lanes._lanes.values()
            for flight in state.in_air.values()
            if flight.attempts
            for row in flight.rows
        }
        for number, *key in self._disk.rows(
            "SELECT id, device, epoch, seq FROM dropped WHERE rowid > ?", self._dropped_seen
        ):
            if number in air:
                self._broken(BrokenError(f"evicted while in the air: {key}"))

    def _nothing_was_confirmed_by_a_former_store(self) -> None:
        """Once a gateway knows the present store, only what that one holds may be confirmed.

        A store that was restored and has not noticed it yet has the name of what it was.
        """
        known = self._disk.rows("SELECT value FROM meta WHERE name = 'store_id'")
        before, self._store_known = self._store_known, known[0][0] if known else ""
        present = self._cloud.rows("SELECT store_id FROM store")[0][0]
        if before != present or present in self.namesakes:
            return
        for device, epoch, seq in self._disk.rows(
            "SELECT device, epoch, seq FROM settled WHERE rowid > ?", self._settled_seen
        ):
            if not self._cloud.rows(
                "SELECT 1 FROM span s JOIN book b ON b.id = s.book JOIN device d ON d.id = b.device"
                " WHERE d.spiffe_id = ? AND b.epoch = ? AND ? BETWEEN s.first AND s.last"
                " UNION SELECT 1 FROM quarantine WHERE device = ?1 AND epoch = ?2 AND seq = ?3",
                *(device, epoch, seq),
            ):
                why = f"confirmed by a former store: {device} {epoch}/{seq}"
                self._broken(BrokenError(why))
