import contextlib
import http.client
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.device.stand_ins import Gateway, open_outbox
from tests.fakes.ports import free_port
from tests.fakes.waiting import until

CSV = '"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"\n'
ROWS = 600
MANY = 20_000  # that a sensor of 100 readings a second does not have in a test's time


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def configure(folder: Path, gateway: Gateway, **extra: str) -> Path:
    svid = gateway.device_identity().svid
    (folder / "chain.pem").write_bytes(svid.chain_pem)
    (folder / "key.pem").write_bytes(svid.key_pem)
    roots = [ssl.DER_cert_to_PEM_cert(root) for root in gateway.issuer.bundle().roots_der]
    (folder / "bundle.pem").write_text("".join(roots))
    sections = {
        "agent": f'state = "{folder / "state"}"',
        "identity": f'provider = "files"\nchain_file = "{folder / "chain.pem"}"\n'
        f'key_file = "{folder / "key.pem"}"\nbundle_file = "{folder / "bundle.pem"}"',
        "uplink": f'address = "127.0.0.1:{gateway.port or free_port()}"\nreconnect_s_max = 1.0',
        "log": 'target = "stderr"\nlevel = "INFO"',
    } | extra
    path = folder / "device.toml"
    path.write_text("".join(f"[{name}]\n{text}\n" for name, text in sections.items()))
    return path


@contextmanager
def agent(config: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "plantroom.device", str(config)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plantroom.device", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_simulated_sensor_serves_and_stops_cleanly(tmp_path: Path, gateway: Gateway) -> None:
    port = free_port()
    with gateway.serving():
        config = configure(
            tmp_path,
            gateway,
            sampling="speed = 600.0",
            server=f"enabled = true\nport = {port}",
            metrics="enabled = true",
        )
        with agent(config) as process:
            until(lambda: len(gateway.readings) >= 5, deadline_s=60)
            until(lambda: b"plantroom_device_link_up 1" in metrics(port), deadline_s=60)
            fresh = gateway.call("read_sensors")
            names = set(fresh.data["reading"]["points"])
            assert names == {"temperature", "humidity", "fan_speed", "fan_status", "power_mode"}
            key = (fresh.data["reading"]["epoch"], fresh.data["reading"]["seq"])
            until(lambda: key in gateway.readings, deadline_s=60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        until(lambda: not gateway.presences[-1].online, deadline_s=60)
        seqs = [seq for _, seq in sorted(gateway.readings)]
        assert seqs == list(range(len(seqs)))


def metrics(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read()


def recording(folder: Path) -> Path:
    path = folder / "office.csv"
    rows = (
        f'"{n}","2015-02-04 {17 + n // 60 % 6:02}:{n % 60:02}:00",{n},2,3,4,5,0\n'
        for n in range(ROWS)
    )
    path.write_text(CSV + "".join(rows) + '"x","never",1,2,3,4,5,0\n')
    return path


def replay(folder: Path, gateway: Gateway) -> Path:
    return configure(
        folder,
        gateway,
        sampling='driver = "replay"\nspeed = 20000.0',
        replay=f'file = "{recording(folder)}"',
        buffer="readings_max = 40",
    )


def test_replay_survives_kill_9_and_says_when_everything_has_arrived(
    tmp_path: Path, gateway: Gateway
) -> None:
    with gateway.serving():
        config = replay(tmp_path, gateway)
        for turn in range(3):
            before = len(gateway.readings)
            with agent(config) as process:
                until(lambda n=before: len(gateway.readings) > n + 60, deadline_s=60)  # type: ignore[misc]
                process.kill()
                process.wait(60)
            assert turn < 3
        with agent(config) as process:
            until(
                lambda: gateway.presences and gateway.presences[-1].info.get("replay") == "done",
                deadline_s=60,
            )
            info = gateway.presences[-1].info
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert process.stderr is not None
            assert f"office.csv:{ROWS + 2}:5: date" in process.stderr.read()
    values = [
        next(p.value for p in reading.points if p.name == "Temperature")
        for _, reading in sorted(gateway.readings.items())
    ]
    assert values == list(range(ROWS))
    assert (info["rows"], info["rejected"]) == (str(ROWS), "1")
    last = max(gateway.readings)
    assert info["last"] == f"{last[0]}/{last[1]}"
    assert gateway.notes == []  # a small ring, and nothing was evicted


def test_replay_waits_while_nobody_takes_its_rows(tmp_path: Path, gateway: Gateway) -> None:
    config = replay(tmp_path, gateway)
    with agent(config) as process:
        until((tmp_path / "state" / "outbox.db").exists, deadline_s=60)
        until(lambda: _rows(tmp_path) == 40, deadline_s=60)
        process.kill()
        process.wait(60)
    outbox = open_outbox(tmp_path / "state" / "outbox.db", readings_max=40)
    assert json.loads(outbox.position or "{}")["rows"] == 40
    assert outbox.counts.evicted == {}
    outbox.close()


def _rows(folder: Path) -> int:
    import sqlite3

    db = sqlite3.connect(folder / "state" / "outbox.db")
    try:
        return int(db.execute("SELECT COUNT(*) FROM reading").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        db.close()


def test_state_folder_in_use_is_one_clear_line(tmp_path: Path, gateway: Gateway) -> None:
    config = configure(tmp_path, gateway)
    with agent(config) as process:
        until((tmp_path / "state" / "outbox.db").exists, deadline_s=60)
        second = finished(config)
        assert second.returncode == 1
        assert second.stderr == (
            f"plantroom: the state folder is in use by pid {process.pid}, {tmp_path / 'state'}: "
            "stop that agent, or give this one an agent.state of its own\n"
        )


def test_state_folder_that_cannot_be_made_is_one_clear_line(
    tmp_path: Path, gateway: Gateway
) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    done = finished(configure(tmp_path, gateway))
    assert done.returncode == 1
    assert done.stderr.startswith("plantroom: cannot use the state folder")
    assert done.stderr.count("\n") == 1


def test_damaged_outbox_is_set_aside_and_service_goes_on(tmp_path: Path, gateway: Gateway) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "outbox.db").write_bytes(b"no database at all" * 1000)
    with gateway.serving(), agent(configure(tmp_path, gateway)) as process:
        until(lambda: gateway.readings, deadline_s=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "outbox.db.damaged-" in process.stderr.read()
    (aside,) = (tmp_path / "state").glob("outbox.db.damaged-*")
    assert aside.read_bytes().startswith(b"no database at all")


def test_missing_column_and_missing_file_are_one_clear_line(
    tmp_path: Path, gateway: Gateway
) -> None:
    (tmp_path / "a.csv").write_text("date,Temperature\n")
    (tmp_path / "map.toml").write_text(
        '[[mapping]]\nname = "m"\ndevice = "d"\nkind = "hvac"\n'
        'time = { column = "date", format = "iso", timezone = "UTC" }\n'
        "[mapping.columns]\nHumidity = {}\n"
    )
    config = configure(
        tmp_path,
        gateway,
        sampling='driver = "replay"',
        replay=f'file = "{tmp_path / "a.csv"}"\nmap = "{tmp_path / "map.toml"}"',
    )
    done = finished(config)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "column 'Humidity'" in done.stderr
    assert "a.csv:1" in done.stderr
    missing = finished(tmp_path / "none.toml")
    assert (missing.returncode, missing.stderr.count("\n")) == (3, 1)
    assert (
        subprocess.run(
            [sys.executable, "-m", "plantroom.device"], capture_output=True, check=False
        ).returncode
        == 2
    )


_IMPORTS = """
import os, sys
before = set(sys.modules)
import plantroom.device.outbox, plantroom.device.sampler, plantroom.device.drivers.simulated
import plantroom.device.drivers.replay
light = set(sys.modules)
import plantroom.device.__main__
pages = int(open("/proc/self/statm").read().split()[1])
print(pages * os.sysconf("SC_PAGE_SIZE") // 1024)
print(*sorted(light - before))
print(*sorted(set(sys.modules) - before))
"""


def test_agent_imports_only_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True
    )
    rss_kib, light, whole = done.stdout.splitlines()
    tops = {name.partition(".")[0] for name in whole.split()}
    assert tops - sys.stdlib_module_names == {"plantroom", "paho", "cbor2"}
    heavy = {"asyncio", "concurrent.futures", "multiprocessing", "subprocess", "argparse"}
    heavy |= {"http.server", "socketserver", "xml", "unittest", "importlib.metadata", "difflib"}
    assert not heavy & set(whole.split())
    assert not (heavy | {"logging", "ssl", "email", "http.client"}) & set(light.split())
    packages = {name.split(".")[1] for name in whole.split() if name.startswith("plantroom.")}
    assert packages == {"device", "wire", "certs"}
    with capsys.disabled():
        sys.stdout.write(f"\nagent, everything imported: RSS {int(rss_kib) / 1024:.1f} MiB\n")


def test_outbox_of_a_killed_agent_can_be_opened(tmp_path: Path, gateway: Gateway) -> None:
    config = configure(
        tmp_path, gateway, sampling="speed = 6000.0", buffer=f"readings_max = {MANY}"
    )
    with agent(config) as process:
        until((tmp_path / "state" / "outbox.db").exists, deadline_s=60)
        until(lambda: _rows(tmp_path) > 20, deadline_s=60)
        process.kill()
        process.wait(60)
    outbox = open_outbox(tmp_path / "state" / "outbox.db", readings_max=MANY)
    seqs = [reading.seq for reading in outbox.waiting(MANY)]
    assert seqs == list(range(len(seqs)))
    outbox.close()
