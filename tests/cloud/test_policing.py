import asyncio
import time
from pathlib import Path

import pytest

from plantroom.certs import credentials
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.svid import parse_svid
from plantroom.cloud import policing
from plantroom.cloud.settings import AgentSection, CloudPolicySection, CloudSettings
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError
from plantroom.wire.policy import Decision, Question
from plantroom.wire.spiffe import SpiffeId
from tests.fakes import opa

OPA = SpiffeId("smart-building.cloud", "agent/opa")


def test_the_folder_holds_an_svid_of_the_server_and_the_clouds_root_alone(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority", OPA.trust_domain, clock=SystemClock())
    folder = tmp_path / "opa"

    async def scenario() -> None:
        task = asyncio.create_task(policing.keep(authority, OPA, folder))
        async with asyncio.timeout(60):
            while not (folder / "cert.pem").exists():  # noqa: ASYNC110 -- written by a thread
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
    svid = parse_svid((folder / "cert.pem").read_bytes(), (folder / "key.pem").read_bytes())
    assert svid.spiffe_id == OPA
    assert svid.not_after_s - svid.not_before_s <= policing.TTL_S + 3600
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (folder / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 1


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority", OPA.trust_domain, clock=SystemClock())
    (tmp_path / "file").write_text("")

    async def scenario() -> None:
        task = asyncio.create_task(policing.keep(authority, OPA, tmp_path / "file" / "x"))
        _, pending = await asyncio.wait([task], timeout=0.3)
        assert pending, "it goes on"
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("endpoint_id", "issues", "what"),
    [("", True, "policy.endpoint_id"), (str(OPA), False, "somebody else is the issuer")],
)
def test_a_folder_that_nobody_can_fill_is_an_error(
    tmp_path: Path, endpoint_id: str, *, issues: bool, what: str
) -> None:
    authority = Authority.open(tmp_path / "authority", OPA.trust_domain, clock=SystemClock())
    section = CloudPolicySection(endpoint_id=endpoint_id, server_folder=str(tmp_path / "opa"))
    settings = CloudSettings(agent=AgentSection(state=str(tmp_path)), policy=section)
    source = EmbeddedSource(authority, SpiffeId(OPA.trust_domain, "agent/front"))

    async def scenario() -> None:
        async with policing.opened(settings, tmp_path, source, authority if issues else None):
            raise AssertionError

    with pytest.raises(ConfigError, match=what):
        asyncio.run(scenario())


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_cloud_asks_opa_as_compose_starts_it(tmp_path: Path) -> None:
    """Its SVID is from the cloud's issuer; only the front is let in, and delivers the registry."""
    command = opa.need()
    authority = Authority.open(tmp_path / "authority", OPA.trust_domain, clock=SystemClock())
    svids = tmp_path / "svid"
    credentials.write_folder(authority, OPA, svids, bundles={})
    options = [
        *(f"--tls-cert-file={svids}/cert.pem", f"--tls-private-key-file={svids}/key.pem"),
        *(f"--tls-ca-cert-file={svids}/ca.pem", "--min-tls-version=1.3", "--authentication=tls"),
        *("--authorization=basic", f"{opa.ROOT}/deploy/opa-authz"),
    ]
    ann = f"spiffe://{OPA.trust_domain}/operator/ann"
    entry = {"role": "operator", "site": "cloud", "device": "ann", "status": "active"}
    question = Question(spiffe_id=ann, cert_serial="0A", client_id="x", action="connect")

    async def decided(name: str, port: int) -> Decision:
        section = CloudPolicySection(
            provider="remote",
            endpoint=f"https://127.0.0.1:{port}",
            endpoint_id=str(OPA),
            poll_s=0.1,
        )
        settings = CloudSettings(agent=AgentSection(state=str(tmp_path)), policy=section)
        source = EmbeddedSource(authority, SpiffeId(OPA.trust_domain, f"agent/{name}"))
        async with policing.opened(settings, tmp_path, source, None) as office:
            office.update(
                registry={"devices": {ann: entry}},
                revocation={"generation": 1, "spiffe_ids": {}, "serials": {}},
            )
            running = asyncio.create_task(office.run())
            try:
                decision = await office.decisions.decide(question)
                give_up_s = time.monotonic() + (60 if name == "front" else 0)
                while not decision.allow and time.monotonic() < give_up_s:
                    await asyncio.sleep(0.3)
                    decision = await office.decisions.decide(question)
                return decision
            finally:
                running.cancel()
                await asyncio.wait([running])

    with opa.serving(command, tmp_path, *options) as port:
        allowed = asyncio.run(decided("front", port))
        assert (allowed.allow, allowed.rule) == (True, "operator may connect")
        refused = asyncio.run(decided("ota", port))
        assert (refused.allow, refused.ttl_s) == (False, 0.0)
        assert refused.reason.startswith("policy-")
