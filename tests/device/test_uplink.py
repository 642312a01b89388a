import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from plantroom.device.capabilities import Calls, sync_buffered
from plantroom.device.dispatch import Dispatch, Rules
from plantroom.device.identity import IdentityKeeper
from plantroom.device.journal import Journal
from plantroom.device.session import Target
from plantroom.device.uplink import Manners, Uplink
from plantroom.wire import tls
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import IdentityError, StorageCorruptError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.device.stand_ins import FakeClock, Gateway, middle, open_outbox, taken
from tests.fakes.issuer import BUILDING
from tests.fakes.waiting import until

GATEWAY = SpiffeId.parse(f"spiffe://{BUILDING}/agent/gateway")
QUOTA = 0x97


class Source:
    """Identities that a test puts in."""

    def __init__(self, identity: Identity | None) -> None:
        self.identity = identity

    def current(self) -> Identity:
        if self.identity is None:
            raise IdentityError("none yet", reason="no-svid")
        return self.identity

    def due(self, _now_s: float) -> bool:
        return True

    def renew(self) -> Identity:
        return self.current()


class Sensor:
    """An uplink in a thread of its own, with its outbox."""

    def __init__(  # noqa: PLR0913 -- what tests vary
        self,
        folder: Path,
        gateway: Gateway,
        *,
        port: int = 0,
        protocol: int = 5,
        reuse: bool = True,
        puback_timeout_s: float = 60,
        timeout_s: float = 60,
        identity: Identity | None = None,
        enrolled: bool = True,
    ) -> None:
        self.outbox = open_outbox(folder / "o.db", FakeClock(), readings_max=500)
        self.dispatch = Dispatch(self.outbox, Rules(batch_readings=5), uniform=lambda low, _h: low)
        self.source = Source((identity or gateway.device_identity()) if enrolled else None)
        self.keeper = IdentityKeeper(
            self.source, clock=FakeClock(), refresh_s=60, say=print, inform=lambda _text: None
        )
        self.info = {"kind": "hvac"}
        offered = {
            "sync_buffered": sync_buffered(
                self.outbox.waiting, lambda: self.outbox.counts.waiting, lambda: None
            )
        }
        self.uplink = Uplink(
            Target(
                host="127.0.0.1",
                port=port or gateway.port,
                client_id="hvac-001",
                protocol=protocol,
                keepalive_s=60,
                timeout_s=timeout_s,
            ),
            Manners(
                site="building-1",
                device="hvac-001",
                puback_timeout_s=puback_timeout_s,
                reconnect_s_max=1,
                presence_s=300,
                reuse=reuse,
            ),
            identity=self.keeper,
            context=self.context,
            dispatch=self.dispatch,
            calls=Calls(offered, site="building-1", queue_max=9, keys_max=9),
            presence=self.presence,
            uniform=middle,
            journal=Journal(level="ERROR", target="stderr", name="hvac-001"),
        )
        self.outbox.watch(self.uplink.wake)
        self.keeper.watch(self.uplink.wake)

    @staticmethod
    def context(identity: Identity) -> ssl.SSLContext:
        return tls.client_context(identity, server_ids=(GATEWAY,))

    def presence(self, online: bool) -> Presence:  # noqa: FBT001 -- the seam's own form
        return Presence(
            online=online, epoch=self.outbox.epoch, heads=self.outbox.heads(), info=self.info
        )

    def put(self, *values: float) -> None:
        self.outbox.append(taken(*values))

    @contextmanager
    def running(self) -> Iterator["Sensor"]:
        thread = threading.Thread(target=self.uplink.run, name="uplink")
        thread.start()
        try:
            yield self
        finally:
            self.uplink.stop()
            thread.join(60)
            assert not thread.is_alive()
            self.outbox.close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway().serving() as one:
        yield one


def values(gateway: Gateway) -> list[float]:
    return [float(r.points[0].value) for _, r in sorted(gateway.readings.items())]


@pytest.mark.parametrize("protocol", [4, 5])
def test_readings_arrive_and_are_marked_sent(
    tmp_path: Path, gateway: Gateway, protocol: int
) -> None:
    with Sensor(tmp_path, gateway, protocol=protocol).running() as sensor:
        sensor.put(*range(12))
        until(lambda: sensor.outbox.counts.sent == 12, deadline_s=60)
        assert values(gateway) == list(range(12))
        assert sensor.uplink.connected
    if protocol == 5:
        epoch = sensor.outbox.epoch
        assert gateway.spans == [f"{epoch}/0/4", f"{epoch}/5/9", f"{epoch}/10/11"]


def test_birth_and_goodbye_are_retained_with_the_highest_seq(
    tmp_path: Path, gateway: Gateway
) -> None:
    with Sensor(tmp_path, gateway).running() as sensor:
        sensor.put(1, 2)
        until(lambda: sensor.outbox.counts.sent == 2, deadline_s=60)
    until(lambda: gateway.presences[-1].online is False, deadline_s=60)
    first, last = gateway.presences[0], gateway.presences[-1]
    assert (first.online, first.epoch) == (True, sensor.outbox.epoch)
    assert last.heads == {sensor.outbox.epoch: 1}
    assert len(gateway.presences) == 2  # a goodbye, and no will


def test_presence_is_published_when_it_says_something_new(tmp_path: Path, gateway: Gateway) -> None:
    with Sensor(tmp_path, gateway).running() as sensor:
        until(lambda: gateway.presences, deadline_s=60)
        sensor.info = {"kind": "hvac", "replay": "done"}
        sensor.uplink.wake()
        until(lambda: gateway.presences[-1].info.get("replay") == "done", deadline_s=60)


def test_outage_loses_nothing_and_the_link_comes_back_by_itself(tmp_path: Path) -> None:
    gateway = Gateway()
    with gateway.serving():
        pass  # takes a port, and gives it back
    with Sensor(tmp_path, gateway).running() as sensor:
        sensor.put(*range(7))
        with gateway.serving():
            until(lambda: sensor.outbox.counts.sent == 7, deadline_s=60)
        until(lambda: not sensor.uplink.connected, deadline_s=60)
        sensor.put(*range(7, 30))
        assert sensor.outbox.counts.unsent == 23
        with gateway.serving():
            until(lambda: sensor.outbox.counts.sent == 30, deadline_s=60)
        assert values(gateway) == list(range(30))


@pytest.mark.parametrize("protocol", [5])
def test_refused_readings_are_kept_and_arrive_later(
    tmp_path: Path, gateway: Gateway, protocol: int
) -> None:
    gateway.on_loop(lambda broker: broker.tap_hold(QUOTA))
    with Sensor(tmp_path, gateway, protocol=protocol).running() as sensor:
        sensor.put(*range(8))
        until(lambda: sensor.dispatch.refused_total.get(QUOTA, 0) >= 2, deadline_s=60)
        assert gateway.readings == {}
        assert sensor.outbox.counts.unsent == 8
        gateway.on_loop(lambda broker: broker.tap_hold(None))
        until(lambda: sensor.outbox.counts.sent == 8, deadline_s=60)
        assert values(gateway) == list(range(8))


def test_renewed_svid_is_used_without_losing_a_reading(tmp_path: Path, gateway: Gateway) -> None:
    with Sensor(tmp_path, gateway).running() as sensor:
        for revision in range(2, 5):
            sensor.put(revision)
            until(lambda: sensor.uplink.connected, deadline_s=60)
            sensor.source.identity = gateway.device_identity(revision)
            sensor.uplink._renew_at_s = 0
            sensor.keeper.step()
            until(
                lambda now=revision: sensor.uplink.connects_total == now,  # type: ignore[misc]
                deadline_s=60,
            )
        sensor.put(99)
        until(lambda: sensor.outbox.counts.sent == 4, deadline_s=60)
        assert values(gateway) == [2, 3, 4, 99]
        assert sensor.uplink._revision == 4
    assert [p.online for p in gateway.presences].count(True) == 4


def test_new_svid_that_is_refused_leaves_the_old_connection(
    tmp_path: Path, gateway: Gateway
) -> None:
    with Sensor(tmp_path, gateway).running() as sensor:
        until(lambda: sensor.uplink.connected, deadline_s=60)
        good = gateway.device_identity(2)
        sensor.source.identity = Identity(svid=good.svid, bundles={}, revision=2)
        sensor.keeper.step()
        sensor.put(1)
        until(lambda: sensor.outbox.counts.sent == 1, deadline_s=60)
        assert sensor.uplink.connects_total == 1


def test_device_that_is_not_enrolled_yet_connects_once_it_is(
    tmp_path: Path, gateway: Gateway
) -> None:
    with Sensor(tmp_path, gateway, enrolled=False).running() as sensor:
        sensor.put(1)
        sensor.source.identity = gateway.device_identity()
        sensor.keeper.step()
        until(lambda: sensor.outbox.counts.sent == 1, deadline_s=60)


def test_link_that_may_not_stay_sleeps_between_readings(tmp_path: Path, gateway: Gateway) -> None:
    with Sensor(tmp_path, gateway, reuse=False).running() as sensor:
        for count in (1, 2):
            sensor.put(count)
            until(lambda now=count: sensor.outbox.counts.sent == now, deadline_s=60)  # type: ignore[misc]
            until(lambda: not sensor.uplink.connected, deadline_s=60)
        assert sensor.uplink.connects_total == 2


def test_calls_are_answered(tmp_path: Path, gateway: Gateway) -> None:
    with Sensor(tmp_path, gateway).running() as sensor:
        until(lambda: sensor.uplink.connected, deadline_s=60)
        until(lambda: _subscribed(gateway), deadline_s=60)
        reply = gateway.call("sync_buffered")
        assert reply.data == {"count": 0, "readings": [], "complete": True}
        assert gateway.call("dance", name="c2").error


def _subscribed(gateway: Gateway) -> bool:
    found: list[str] = []
    gateway.on_loop(
        lambda broker: found.extend(f for one in broker.sessions() for f in one.subscriptions)
    )
    return bool(found)


class BlackHole:
    """Passes bytes between sensor and gateway until it is told to swallow them."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.swallow = False
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                threading.Thread(target=self._pump, args=(near, far), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.swallow:
                    sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def test_link_that_is_only_half_there_is_noticed_by_missing_answers(
    tmp_path: Path, gateway: Gateway
) -> None:
    hole = BlackHole(gateway.port)
    with Sensor(
        tmp_path, gateway, port=hole.port, puback_timeout_s=0.5, timeout_s=2
    ).running() as sensor:
        sensor.put(1)
        until(lambda: sensor.outbox.counts.sent == 1, deadline_s=60)
        hole.swallow = True
        sensor.put(2)
        until(lambda: not sensor.uplink.connected, deadline_s=60)
        assert sensor.outbox.counts.unsent == 1
        hole.swallow = False
        until(lambda: sensor.outbox.counts.sent == 2, deadline_s=60)
        assert values(gateway) == [1, 2]
    hole.close()


def test_a_damaged_outbox_ends_the_agent_instead_of_being_tried_again(
    tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next start sets the file aside."""

    def damaged(_now_s: float) -> None:
        raise StorageCorruptError("database is damaged", where="outbox.db")

    sensor = Sensor(tmp_path, gateway)
    monkeypatch.setattr(sensor.dispatch, "next", damaged)
    with pytest.raises(StorageCorruptError):
        sensor.uplink.run()
    assert not sensor.uplink.connected
    sensor.outbox.close()
