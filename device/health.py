"""The agent's figures and its state of health, from plain values."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from plantroom.device.dispatch import Dispatch
from plantroom.device.identity import IdentityKeeper
from plantroom.device.outbox import Outbox
from plantroom.device.sampler import Sampler
from plantroom.device.uplink import Uplink
from plantroom.wire.metrics import Metric

_PREFIX = "plantroom_device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The stages that are looked at."""

    outbox: Outbox
    sampler: Sampler
    dispatch: Dispatch
    uplink: Uplink
    identity: IdentityKeeper


class Health:
    """Looks at every stage and changes none."""

    def __init__(self, parts: Parts, *, now_s: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._now_s = now_s

    def troubles(self) -> list[str]:
        """Say what is wrong: readings that go nowhere are not, an agent that cannot go on is."""
        identity = self._parts.identity.current
        troubles = []
        if identity is None:
            troubles.append("no identity yet")
        elif identity.svid.not_after_s < self._now_s():
            troubles.append("the SVID has expired")
        if not self._parts.uplink.connected:
            troubles.append("not connected")
        return troubles

    def metrics(self) -> list[Metric]:
        """Return every figure."""
        return [*self._buffer(), *self._link(), *self._identity(), *self._source()]

    def _buffer(self) -> Iterator[Metric]:
        counts = self._parts.outbox.counts
        name = f"{_PREFIX}_outbox_readings"
        for state in ("unsent", "parked", "sent"):
            value = float(getattr(counts, state))
            yield Metric(name, "gauge", "Readings in the outbox.", value, {"state": state})
        yield Metric(
            f"{_PREFIX}_outbox_bytes", "gauge", "Bytes of readings in the outbox.",
            counts.size_bytes,
        )  # fmt: skip
        yield Metric(
            f"{_PREFIX}_outbox_tombstones", "gauge", "Tombstones that wait to be sent.",
            counts.notes,
        )  # fmt: skip
        for reason in ("full", "age"):
            yield Metric(
                f"{_PREFIX}_evicted_readings_total", "counter", "Readings overwritten unsent.",
                counts.evicted.get(reason, 0), {"reason": reason},
            )  # fmt: skip

    def _link(self) -> Iterator[Metric]:
        dispatch, uplink = self._parts.dispatch, self._parts.uplink
        yield Metric(
            f"{_PREFIX}_link_up", "gauge", "1 while acknowledgements come.", uplink.connected
        )
        yield Metric(
            f"{_PREFIX}_connects_total", "counter", "Connections made.", uplink.connects_total
        )
        yield Metric(
            f"{_PREFIX}_acknowledged_readings_total", "counter", "Readings acknowledged.",
            dispatch.acknowledged_total,
        )  # fmt: skip
        for code, count in sorted(dispatch.refused_total.items()):
            yield Metric(
                f"{_PREFIX}_refused_publishes_total", "counter", "Publishes refused.",
                count, {"code": f"0x{code:02x}"},
            )  # fmt: skip
        if dispatch.acknowledged_at_s is not None:
            yield Metric(
                f"{_PREFIX}_last_puback_age_seconds", "gauge", "Time since the last PUBACK.",
                time.monotonic() - dispatch.acknowledged_at_s,
            )  # fmt: skip

    def _identity(self) -> Iterator[Metric]:
        identity = self._parts.identity.current
        if identity is not None:
            yield Metric(
                f"{_PREFIX}_svid_expiry_timestamp_seconds", "gauge", "When the SVID expires.",
                identity.svid.not_after_s,
            )  # fmt: skip
        yield Metric(
            f"{_PREFIX}_svid_renewal_failing", "gauge", "1 while renewal fails; the log says why.",
            bool(self._parts.identity.trouble),
        )  # fmt: skip

    def _source(self) -> Iterator[Metric]:
        yield Metric(
            f"{_PREFIX}_readings_total", "counter", "Readings taken.",
            self._parts.sampler.taken_total,
        )  # fmt: skip
        for key, value in self._parts.sampler.info().items():
            if value.isdecimal():
                yield Metric(
                    f"{_PREFIX}_driver_{key}", "gauge", f"The driver's own count: {key}.",
                    float(value),
                )  # fmt: skip
