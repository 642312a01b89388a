"""A broker on its own, with a policy: as a process, and its data file."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plantroom.broker.pem import PemContext, admit
from plantroom.broker.settings import BrokerPolicySection, BrokerSettings
from plantroom.lab import broker_alone
from plantroom.wire import tls
from plantroom.wire.errors import ConfigError, RefusedError
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.policy import Question
from plantroom.wire.spiffe import SpiffeId
from tests.broker import test_pem
from tests.broker.harness import running as broker_running
from tests.broker.test_listener import audit_of, is_refused
from tests.fakes import opa
from tests.fakes.issuer import BUILDING, Issuer
from tests.fakes.ports import free_port

HVAC, SERVER = (SpiffeId(BUILDING, f"agent/{name}") for name in ("hvac-001", "gateway"))
ENTRY = {"role": "sensor", "site": "building-1", "device": "hvac-001", "status": "active"}
NOBODY_REVOKED: dict[str, Any] = {"generation": 1, "spiffe_ids": {}, "serials": {}}
DATA: dict[str, Any] = {"registry": {"devices": {str(HVAC): ENTRY}}, "revocation": NOBODY_REVOKED}
CONNECT = Question(spiffe_id=str(HVAC), cert_serial="0A", client_id="hvac-001", action="connect")


def settings(path: Path, **more: Any) -> BrokerSettings:
    section = BrokerPolicySection(provider="embedded", data=str(path), poll_s=0.1, **more)
    return BrokerSettings(policy=section)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- another object's state
            await asyncio.sleep(0.01)


def test_the_data_file_decides_and_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(DATA))

    async def scenario() -> None:
        async with broker_alone.policy(settings(path)) as decisions:

            def allowed() -> bool:
                decision = decisions.now(CONNECT)
                return decision is not None and decision.allow

            assert allowed()
            path.write_text("{")
            await asyncio.sleep(0.3)
            assert allowed(), "what is broken changes nothing"
            revoked = NOBODY_REVOKED | {"generation": 2, "spiffe_ids": {str(HVAC): "lost"}}
            path.write_text(json.dumps(DATA | {"revocation": revoked}))
            await until(lambda: not allowed())

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"registry": 1, "revocation": 2}'])
def test_data_that_cannot_be_used_stop_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text)

    async def scenario() -> None:
        async with broker_alone.policy(settings(path)):
            raise AssertionError

    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match=r"policy\.data")):
        asyncio.run(scenario())


def test_without_data_nobody_may(tmp_path: Path) -> None:
    async def scenario() -> None:
        section = BrokerPolicySection(provider="embedded", state=str(tmp_path))
        async with broker_alone.policy(BrokerSettings(policy=section)) as decisions:
            decision = decisions.now(CONNECT)
            assert decision is not None
            assert decision.reason == "no-revocation-data"

    asyncio.run(scenario())


@contextmanager
def running(folder: Path, **policy: str) -> Iterator[int]:
    """Run `plantroom broker run` with this policy."""
    port = free_port()
    lines = [f'{name} = "{value}"' for name, value in policy.items()]
    config = folder / "broker.toml"
    config.write_text(
        f'[listen]\nport = {port}\n[identity]\ncertificate = "{folder}/cert.pem"\n'
        f'key = "{folder}/key.pem"\nclient_roots = "{folder}/roots.pem"\n'
        f'[store]\nkind = "memory"\n[admin]\nsocket = ""\n'
        f"[policy]\npoll_s = 0.1\n{chr(10).join(lines)}\n"
    )
    command = [sys.executable, "-m", "plantroom.cli.main", "broker", "run", str(config)]
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        give_up_s = time.monotonic() + 60
        while f":{port}" not in (folder / "broker.log").read_text():
            assert process.poll() is None, (folder / "broker.log").read_text()
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


async def published(port: int, identity: Identity, topic: str) -> int:
    context = tls.client_context(identity, server_ids=(SERVER,))
    async with MqttLink("127.0.0.1", port, "hvac-001", context, timeout_s=10) as link:
        return await link.publish(Message(topic=topic, payload=b"x"))


OWN, FOREIGN = (f"v1/building-1/telemetry/hvac-00{number}" for number in (1, 2))


def test_the_process_decides_by_the_bundle(tmp_path: Path) -> None:
    issuer = Issuer(BUILDING)
    opa.certificate_files(tmp_path, issuer.identity("agent/gateway"))
    (tmp_path / "data.json").write_text(json.dumps(DATA))
    with running(tmp_path, provider="embedded", data=f"{tmp_path}/data.json") as port:
        identity = issuer.identity("agent/hvac-001")
        assert asyncio.run(published(port, identity, OWN)) in {0x00, 0x10}
        assert asyncio.run(published(port, identity, FOREIGN)) == 0x87
        with pytest.raises(RefusedError, match="decision"):
            asyncio.run(published(port, issuer.identity("agent/ghost"), OWN))


def test_a_certificate_that_may_sign_others_is_nobodys_identity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer(BUILDING)
    context = PemContext(test_pem.write(tmp_path, issuer)).context

    async def scenario() -> None:
        checked = partial(admit, check=broker_alone.check)
        async with broker_running(admit=checked, context=context) as live:
            leaf, authority = (issuer.svid(str(HVAC), ca=is_ca) for is_ca in (False, True))
            assert not await is_refused(live, test_pem.showing(leaf))
            assert await is_refused(live, test_pem.showing(authority))

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert "ca-leaf" in audit_of(caplog)


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_process_asks_a_real_opa_server_over_mutual_tls(tmp_path: Path) -> None:
    """Also without it, and when it comes back without its data."""
    issuer = Issuer(BUILDING)
    command = opa.need()
    opa.certificate_files(tmp_path, issuer.identity("agent/gateway"))
    (tmp_path / "data.json").write_text(json.dumps(DATA))
    (tmp_path / "opa").mkdir()
    options = opa.certificate_files(tmp_path / "opa", issuer.identity("agent/opa"))
    identity = issuer.identity("agent/hvac-001")
    policy = {
        "provider": "remote",
        "endpoint_id": f"spiffe://{BUILDING}/agent/opa",
        "data": f"{tmp_path}/data.json",
    }

    def until_known(claim: Callable[[], bool]) -> None:
        """Ask again while OPA has no data yet, or takes longer than the time that it is given."""
        give_up_s = time.monotonic() + 60
        while True:
            with suppress(RefusedError):
                if claim():
                    return
            assert time.monotonic() < give_up_s, (tmp_path / "broker.log").read_text()
            time.sleep(0.2)

    def accepted(port: int) -> bool:
        return asyncio.run(published(port, identity, OWN)) in {0x00, 0x10}

    def foreign_denied(port: int) -> bool:
        assert asyncio.run(published(port, identity, FOREIGN)) == 0x87
        return True

    with opa.serving(command, tmp_path / "opa", *options) as opa_port:
        policy["endpoint"] = f"https://127.0.0.1:{opa_port}"
        with running(tmp_path, **policy) as port:
            until_known(lambda: accepted(port))
            until_known(lambda: foreign_denied(port))
    with running(tmp_path, **policy) as port, pytest.raises(RefusedError, match="policy-"):
        asyncio.run(published(port, identity, OWN))
