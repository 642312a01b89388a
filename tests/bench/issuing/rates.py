"""How fast SVIDs are made and renewed, and what checking one costs in a handshake."""

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from plantroom.certs import bundle, certificates, enrolment_client, key_helper, svid
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.enrolment_client import Server
from plantroom.certs.own_svid import read_svid
from plantroom.certs.tpm import Tpm
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.identity import Identity
from tests.bench.issuing.server import FACTS, GATEWAY, SENSORS, sensor
from tests.bench.kit.figures import Figure, Pair, alone, compared, missing
from tests.fakes.issuer import BUILDING

_WORKERS = 2


def issued(*, quick: bool) -> Iterator[Figure]:
    """Sign SVIDs for keys that are there, as renewals do, without the network."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.open(Path(folder) / "authority", BUILDING, clock=SystemClock())
        key = certificates.new_key().public_key()
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < (2 if quick else 10):
            authority.issue(sensor(0), key, ttl_s=3600)
            count += 1
        rate = count / (time.perf_counter() - began)
    yield alone("SVIDs signed by the issuer", rate, unit="1/s", target=200.0, note="one thread")


def renewed(folder: Path, port: int, *, quick: bool) -> Iterator[Figure]:
    """Renew over mutual TLS, a connection each, from processes on the same machine."""
    until_s = time.time() + (6 if quick else 20)
    began = time.perf_counter()
    with ProcessPoolExecutor(_WORKERS) as pool:
        jobs = [pool.submit(_renew, folder, port, 1 + n, until_s) for n in range(_WORKERS)]
        counts = [job.result() for job in jobs]
    rate = sum(counts) / (time.perf_counter() - began)
    yield alone(
        "renewals over mutual TLS", rate, unit="1/s", target=5.0,
        note=f"{_WORKERS} clients on the same cores; a gateway of 1,000 sensors needs 0.6",
    )  # fmt: skip
    yield missing(
        "renewals over mutual TLS", peer_name="SPIRE server", unit="1/s",
        why="no package registry has it",
    )  # fmt: skip


def _renew(folder: Path, port: int, number: int, until_s: float) -> int:
    import json

    facts = json.loads((folder / FACTS).read_text())
    trust = bundle.all_from_json(facts["bundles"].encode())[BUILDING]
    server = Server(host="127.0.0.1", port=port, spiffe_id=GATEWAY)
    assert number < SENSORS
    made = key_helper.make(sensor(number))
    token = facts["tokens"][str(sensor(number))]
    answer = enrolment_client.enrol(server, trust, token=token, csr_pem=made.csr_pem)
    count = 0
    while time.time() < until_s:
        current = read_svid(answer.chain_pem, made.key_pem)
        answer = enrolment_client.renew(server, trust, svid=current, csr_pem=made.csr_pem)
        count += 1
    return count


def verified(*, quick: bool) -> Iterator[Figure]:
    """Check a peer's SVID by every rule, beside the mutual handshake that it is part of."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.open(Path(folder) / "authority", BUILDING, clock=SystemClock())
        bundles = {BUILDING: authority.bundle()}
        here, there = (
            Identity(svid=issue_svid(authority, one, ttl_s=3600), bundles=bundles, revision=1)
            for one in (GATEWAY, sensor(0))
        )
        pairs = [_handshake(here, there) for _ in range(50 if quick else 300)]
    yield compared(
        "checking an SVID beside its handshake", pairs, peer_name="the handshake", unit="ms",
        target=0.5, better="less",
    )  # fmt: skip


def _handshake(server: Identity, client: Identity) -> Pair:
    """Return the time of the check and that of the whole handshake, in milliseconds."""
    ours, theirs = socket.socketpair()
    context = tls.client_context(client, server_ids=(server.svid.spiffe_id,))
    listener = tls.server_context(server)

    def shake() -> None:
        with context.wrap_socket(theirs) as connection:
            connection.recv(1)

    thread = threading.Thread(target=shake)
    thread.start()
    began = time.perf_counter()
    with listener.wrap_socket(ours, server_side=True) as connection:
        shaken = time.perf_counter()
        took = []
        for _ in range(5):
            start = time.perf_counter()
            svid.verify_peer(connection, server)
            took.append(time.perf_counter() - start)
        connection.send(b"x")
    thread.join()
    return Pair(median(took) * 1000, (shaken - began) * 1000)


def attested(*, quick: bool) -> Iterator[Figure]:
    """Ask a chip for all that one attestation needs: keys, secret, quote, registers."""
    from plantroom.certs import tpm_check, tpm_wire
    from tests.fakes import swtpm

    name = "TPM: keys, secret, quote and 8 registers"
    try:
        with tempfile.TemporaryDirectory() as folder:
            swtpm.make(Path(folder))
            with swtpm.started(Path(folder)) as place:
                took = []
                for _ in range(5 if quick else 20):
                    began = time.perf_counter()
                    with Tpm(place) as tpm:
                        ek_public = tpm.read_public(tpm_wire.HANDLE_EK_RSA)
                        ak, ak_public = tpm.create_primary(tpm_wire.ak_template())
                        name_of = tpm_wire.name_of(ak_public)
                        sealed = tpm_check.make_credential(ek_public, name_of, bytes(32))
                        tpm.activate_credential(ak, tpm_wire.HANDLE_EK_RSA, *sealed)
                        tpm.quote(ak, bytes(32), tuple(range(8)))
                        for pcr in range(8):
                            tpm.pcr_read(pcr)
                    took.append(time.perf_counter() - began)
    except BaseException as error:
        if type(error).__name__ != "Skipped":
            raise
        yield missing(name, peer_name="swtpm", unit="ms", why="apt-get install swtpm swtpm-tools")
        return
    yield alone(name, median(took) * 1000, unit="ms", target=1000.0, better="less", note="swtpm")
