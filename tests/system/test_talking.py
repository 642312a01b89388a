"""The commands that talk with a running building."""

import json
from collections.abc import Iterator

import pytest

from tests.fakes.waiting import until
from tests.system.conftest import Building

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
GATEWAY = "spiffe://building-1.smart.local/agent/gateway"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    building = Building(tmp_path_factory.mktemp("talking") / "state")
    try:
        building.start("--devices", "1", "--speed", "60")
        yield building
    finally:
        building.close()


def call(building: Building, target: str, capability: str, *more: str) -> tuple[int, str, str]:
    words = ("call", "--target", target, "--capability", capability, "--json", *more)
    done = building.run(*words)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("via", ["gateway", "cloud"])
def test_a_sensor_reads_when_it_is_asked(running: Building, via: str) -> None:
    code, out, err = call(running, HVAC, "read_sensors", "--data", "{}", "--via", via)
    assert code == 0, err
    reading = json.loads(out)["reading"]
    assert reading["device"] == HVAC
    assert "temperature" in reading["points"]


def test_a_sensor_says_what_it_still_holds(running: Building) -> None:
    def held() -> int:
        code, out, err = call(running, HVAC, "sync_buffered")
        assert code == 0, err
        return int(json.loads(out)["count"])

    # one that was taken a moment ago may be on its way
    until(lambda: held() == 0, deadline_s=60, what="a sensor that holds nothing back")


def test_the_gateway_knows_its_sensors(running: Building) -> None:
    code, out, err = call(running, GATEWAY, "aggregate_sensors")
    assert code == 0, err
    found = json.loads(out)
    assert (found["total"], found["online"]) == (1, 1)


def test_a_call_to_nobody_is_not_delivered(running: Building) -> None:
    nobody = HVAC.replace("001", "009")
    code, out, err = call(running, nobody, "read_sensors", "--timeout", "2")
    assert (code, out) == (4, "")
    assert "not delivered" in err


def test_a_capability_that_is_not_offered_is_exit_code_1_or_4(running: Building) -> None:
    code, out, _err = call(running, HVAC, "self_destruct", "--timeout", "2")
    assert code in {1, 4}
    assert out == ""


def test_readings_are_watched_as_lines_and_as_json(running: Building) -> None:
    topic = "v1/building-1/telemetry/hvac-001"
    lines = running.run("watch", "v1/building-1/telemetry/#", "--count", "1")
    assert lines.stdout.startswith(f"{topic} 20")
    assert "temperature=" in lines.stdout
    found = running.json("watch", "v1/building-1/telemetry/#", "--count", "1", "--json")
    assert found["topic"] == topic
    (reading,) = found["readings"]
    assert reading["device"] == HVAC
    assert {"epoch", "seq", "time", "points"} <= reading.keys()


def test_batches_are_watched_at_the_cloud(running: Building) -> None:
    done = running.run("watch", "v1/+/uplink/+/live", "--count", "1", "--via", "cloud")
    assert done.returncode == 0, done.stderr
    assert " batch " in done.stdout
    assert "readings=" in done.stdout


def test_a_watch_that_may_not_be_or_takes_too_long_ends(running: Building) -> None:
    assert running.run("watch", "v1/nowhere/#", "--duration", "0.2").returncode == 0


def test_an_operator_publishes_what_policy_grants_and_nothing_else(running: Building) -> None:
    refused = running.run("publish", "v1/building-1/telemetry/hvac-001", "--text", "x")
    assert refused.returncode == 5
    assert "0x87" in refused.stderr
    topic = "v1/building-1/twin/hvac-001/desired"
    words = ("publish", topic, "--cbor", '{"version": 1}', "--json")
    explained = running.json(
        *("policy", "explain", "--json", "--as", "spiffe://smart-building.cloud/operator/local"),
        *("publish", topic),
    )
    done = running.run(*words)
    assert done.returncode == (0 if explained["allow"] else 5), done.stderr


def test_the_status_says_everything(running: Building) -> None:
    found = until(
        lambda: (now := running.json("status", "--json"))["link"]["state"] == "live" and now,
        deadline_s=60,
        what="a link that has nothing to catch up with",
    )
    assert set(found["queue"]) == {"live", "backfill", "history"}
    assert found["policy"]["revision"]
    assert found["ledger"]["closes"] is True
    assert found["svids"]["gateway"]["not_after"] > "2026"
    shown = running.run("status").stdout
    for word in ("ledger", "hvac-001", "online", "link", "queue", "policy"):
        assert word in shown
