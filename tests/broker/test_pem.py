import asyncio
import logging
import os
import ssl
from pathlib import Path

import pytest

from plantroom.broker.pem import PemContext, admit
from plantroom.broker.settings import IdentitySection
from plantroom.wire.errors import ConfigError
from plantroom.wire.identity import Svid
from plantroom.wire.tls import load_svid
from tests.broker.harness import Raw, running
from tests.broker.test_listener import as_client, audit_of, is_refused
from tests.fakes.issuer import BUILDING, CLOUD, Issuer


def write(folder: Path, issuer: Issuer, *, roots: bool = True) -> IdentitySection:
    svid = issuer.svid(f"spiffe://{BUILDING}/agent/broker")
    for name, data in (
        ("cert.pem", svid.chain_pem),
        ("key.pem", svid.key_pem),
        ("ca.pem", ssl.DER_cert_to_PEM_cert(issuer.bundle().roots_der[0]).encode()),
    ):
        (folder / name).write_bytes(data)
    return IdentitySection(
        certificate=str(folder / "cert.pem"),
        key=str(folder / "key.pem"),
        client_roots=str(folder / "ca.pem") if roots else "",
    )


@pytest.mark.parametrize("roots", [True, False])
def test_client_is_who_its_certificate_says_or_anonymous(*, roots: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        issuer = Issuer(BUILDING)
        identity = PemContext(write(tmp_path, issuer, roots=roots))
        async with running(admit=admit, context=identity.context) as live:
            context = as_client(issuer, "agent/hvac-001", issuer)
            raw = Raw(*await asyncio.open_connection("127.0.0.1", live.port, ssl=context))
            assert await raw.connect("c") == (0x20, b"\0\0")
            (session,) = live.broker.sessions()
            expected = f"spiffe://{BUILDING}/agent/hvac-001" if roots else "anonymous"
            assert session.spiffe_id == expected
            raw.close()

    asyncio.run(scenario())


def test_changed_files_are_served_and_half_written_ones_are_not(tmp_path: Path) -> None:
    issuer = Issuer(BUILDING)
    identity = PemContext(write(tmp_path, issuer))
    assert not identity.reload()
    write(tmp_path, issuer)
    for name in ("cert.pem", "key.pem"):
        os.utime(tmp_path / name, ns=(1, 1))
    assert identity.reload()
    (tmp_path / "cert.pem").write_bytes(b"half")
    assert not identity.reload()


def test_missing_file_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="identity"):
        PemContext(IdentitySection(certificate="/nowhere/c.pem", key="/nowhere/k.pem"))


def showing(svid: Svid) -> ssl.SSLContext:
    """Return the context of a client that takes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    load_svid(context, svid)
    return context


def test_root_speaks_for_the_trust_domain_that_it_names_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    building, cloud = Issuer(BUILDING), Issuer(CLOUD)
    section = write(tmp_path, building)
    with Path(section.client_roots).open("a", encoding="ascii") as roots:
        roots.write(ssl.DER_cert_to_PEM_cert(cloud.bundle().roots_der[0]))

    async def scenario() -> None:
        async with running(admit=admit, context=PemContext(section).context) as live:
            for issuer, own, other in ((building, BUILDING, CLOUD), (cloud, CLOUD, BUILDING)):
                name = "agent/hvac-001"
                assert not await is_refused(live, showing(issuer.svid(f"spiffe://{own}/{name}")))
                assert await is_refused(live, showing(issuer.svid(f"spiffe://{other}/{name}")))

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert audit_of(caplog).count("wrong-trust-domain") == 2
