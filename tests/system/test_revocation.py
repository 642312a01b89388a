"""How long a revoked identity keeps its live session: at each broker, over the bridge, offline.

Measured from the start of the operator's command to the closed socket, in processes of their own.
`PLANTROOM_REVOCATIONS` makes it shorter (CI's slice) or longer.
"""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from plantroom.certs import enrolment_client, key_helper
from plantroom.certs.embedded import issue_svid
from plantroom.lab import issuers
from plantroom.lab.building import FRONT_ID, GATEWAY_ID, TRUST_DOMAIN
from plantroom.lab.layout import Layout
from plantroom.wire import tls
from plantroom.wire.errors import RefusedError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building, Make

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

HOST, CLOUD = "127.0.0.1", "smart-building.cloud"
WAYS = ("gateway", "front", "bridge", "offline")
REVOCATIONS = max(len(WAYS), int(os.environ.get("PLANTROOM_REVOCATIONS", "100")))
LIMIT_S, GIVE_UP_S = 5.0, 20.0


@dataclass(frozen=True)
class Guest:
    """An identity that will be revoked, and how."""

    identity: Identity
    way: str

    @property
    def spiffe_id(self) -> SpiffeId:
        return self.identity.svid.spiffe_id

    @property
    def server(self) -> tuple[SpiffeId, int]:
        """The broker that it connects to, and that port's distance from the base."""
        return (FRONT_ID, 3) if self.way == "front" else (GATEWAY_ID, 0)

    @property
    def command(self) -> tuple[str, ...]:
        by = ("--issuer", CLOUD) if self.way == "bridge" else ()
        return ("devices", "revoke", str(self.spiffe_id), *by)


def guests(building: Building) -> list[Guest]:
    """Register them all, each with an SVID, and one for each way who stays."""
    layout = Layout(building.state)
    below, above = issuers.building(layout), issuers.cloud(layout)
    bundles = {one.trust_domain: one.authority().bundle() for one in (below, above)}
    made = []
    for number in range(REVOCATIONS + len(WAYS)):
        way = WAYS[number % len(WAYS)]
        issuer = above if way == "front" else below
        path = f"gateway/site-{number:03}" if way == "front" else f"agent/guest-{number:03}"
        spiffe_id = SpiffeId(issuer.trust_domain, path)
        with issuer.registry() as registry:
            registry.create(spiffe_id)
        svid = issue_svid(issuer.authority(), spiffe_id, ttl_s=3600)
        made.append(Guest(Identity(svid=svid, bundles=bundles, revision=1), way))
    return made


def connect_packet(client_id: str) -> bytes:
    """Write a CONNECT of MQTT 3.1.1 with a session that stays and no keep-alive."""
    body = b"\x00\x04MQTT\x04\x00\x00\x00" + len(client_id).to_bytes(2, "big") + client_id.encode()
    return bytes((0x10, len(body))) + body


@contextmanager
def session(building: Building, guest: Guest) -> Iterator[ssl.SSLSocket]:
    """Hold an MQTT session."""
    server_id, offset = guest.server
    context = tls.client_context(guest.identity, server_ids=[server_id])
    address = (HOST, building.port_base + offset)
    with socket.create_connection(address, GIVE_UP_S) as plain, context.wrap_socket(plain) as held:
        held.sendall(connect_packet(guest.spiffe_id.name))
        assert held.recv(4)[3:] == b"\x00"  # CONNACK: accepted
        yield held


def is_let_in(building: Building, guest: Guest) -> bool:
    try:
        with session(building, guest):
            return True
    except (AssertionError, OSError):
        return False


def closed_after_s(building: Building, guest: Guest) -> float:
    """Revoke while a session is held; return how long it took to be closed."""
    with session(building, guest) as held:
        begun_s = time.monotonic()
        done = building.run(*guest.command)
        assert done.returncode == 0, done.stderr
        held.settimeout(GIVE_UP_S)
        with suppress(ConnectionError):
            assert held.recv(1) == b"", "MQTT 3.1.1 knows no DISCONNECT from a server"
        return time.monotonic() - begun_s


def test_a_revoked_identity_is_cut_off_within_five_seconds_everywhere(
    make_building: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    building = make_building()
    took_s: dict[str, list[float]] = {way: [] for way in WAYS}
    with Proxy(HOST, building.port_base + 3).running() as proxy:
        building.start("--devices", "1", environ={"PLANTROOM_BRIDGE_ADDRESS": proxy.address})
        made = guests(building)
        gone, stay = made[: -len(WAYS)], made[-len(WAYS) :]
        until(lambda: all(is_let_in(building, guest) for guest in stay), deadline_s=60)
        for guest in sorted(gone, key=lambda one: one.way == "offline"):
            if guest.way == "offline":
                proxy.cut()
            took_s[guest.way].append(closed_after_s(building, guest))
        proxy.restore()
        with capsys.disabled():
            for way, times in took_s.items():
                print(  # noqa: T201 -- what was measured
                    f"\nrevoked at {way}: {len(times)} sessions closed, median "
                    f"{sorted(times)[len(times) // 2]:.2f} s, longest {max(times):.2f} s"
                )
        longest = sorted(time_s for times in took_s.values() for time_s in times)
        assert longest[int(len(longest) * 0.99) - 1] <= LIMIT_S

        assert not any(is_let_in(building, guest) for guest in gone)
        with pytest.raises(RefusedError) as caught:
            renew(building, gone[0])
        assert caught.value.reason == "denied"

        building.kill("gateway")
        building.kill("cloud")
        until(lambda: all(is_let_in(building, guest) for guest in stay), deadline_s=60)
        assert not any(is_let_in(building, guest) for guest in gone)


def renew(building: Building, guest: Guest) -> None:
    """Ask the building's enrolment port for another SVID."""
    server = enrolment_client.Server(
        host=HOST, port=building.port_base + 1, spiffe_id=GATEWAY_ID, timeout_s=10
    )
    csr = key_helper.make(guest.spiffe_id).csr_pem
    trust = guest.identity.bundles[TRUST_DOMAIN]
    enrolment_client.renew(server, trust, svid=guest.identity.svid, csr_pem=csr)
