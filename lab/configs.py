"""The configuration files of a state folder, written from the flags.

A file carries a mark of what it was written from: one's own changes to it stay until a flag
changes what would be written.
"""

import hashlib
from pathlib import Path
from typing import Any

from plantroom.certs import atomic
from plantroom.certs.roles import CLOUD_TRUST_DOMAIN
from plantroom.lab import configuration
from plantroom.lab.building import GATEWAY_ID, SITE, TRUST_DOMAIN, Device
from plantroom.lab.flags import WORKLOAD_API, Flags
from plantroom.lab.layout import Layout
from plantroom.lab.ports import HOST, Ports
from plantroom.lab.workload import Sockets, sockets_of

Tables = dict[str, dict[str, Any]]
_FILE_BYTES_MAX = 1024 * 1024


def prepare(layout: Layout, flags: Flags, devices: tuple[Device, ...]) -> None:
    """Write every configuration that is missing or was written from other flags."""
    ports = Ports.from_base(flags.port_base)
    sockets = sockets_of(flags)
    _write(layout.config("cloud"), cloud_tables(layout, ports, sockets), "cloud")
    _write(layout.config("gateway"), gateway_tables(layout, ports, sockets), "gateway")
    for device in devices:
        tables = device_tables(layout, ports, flags, device)
        _write(layout.device_config(device.name), tables, f"device {device.name}")


def _write(path: Path, tables: Tables, title: str) -> None:
    body = configuration.render(tables)
    mark = hashlib.sha256(body.encode()).hexdigest()[:16]
    head = (
        f"# plantroom {title}, written by `plantroom up` from its flags, mark {mark}\n"
        "# Changes of your own stay until a flag changes. Every option, explained:\n"
        f"# plantroom config sample {title.partition(' ')[0]}\n\n"
    )
    known = atomic.read(path, bytes_max=_FILE_BYTES_MAX) if path.exists() else None
    if known is not None and known.startswith(head.encode()):
        return
    atomic.make_private_folder(path.parent)
    atomic.write(path, (head + body).encode(), mode=atomic.PUBLIC)


def device_tables(layout: Layout, ports: Ports, flags: Flags, device: Device) -> Tables:
    """Return what a sensor's configuration says."""
    sockets = sockets_of(flags)
    tables: Tables = {
        "agent": {
            "name": device.name,
            "trust_domain": TRUST_DOMAIN,
            "device_label": device.label,
            "kind": device.kind,
            "place": device.place,
            "description": device.description,
            "state": str(layout.device(device.name)),
        },
        "identity": {"gateway_id": str(GATEWAY_ID)} | _device_identity(ports, sockets),
        "uplink": {"address": f"{HOST}:{ports.gateway_mqtt}"},
        "policy": {"endpoint": f"{HOST}:{ports.gateway_policy}"},
        "sampling": {
            "driver": "replay" if device.replay else "simulated",
            "speed": flags.speed,
            "seed": device.seed,
        },
        "log": {"level": "INFO", "target": "stderr"},
    }
    if device.replay:
        tables["replay"] = {"file": device.replay, "map": device.map_file or ""}
    return tables


def _device_identity(ports: Ports, sockets: Sockets | None) -> dict[str, Any]:
    if sockets is None:
        return {"enrol_address": f"{HOST}:{ports.gateway_enrol}"}
    return _given(sockets, sockets.building)


def _given(sockets: Sockets, path: Path) -> dict[str, Any]:
    found = {"provider": WORKLOAD_API, "workload_api": f"unix:{path}"}
    return found | ({"workload_owner": sockets.owner} if sockets.owner else {})


def gateway_tables(layout: Layout, ports: Ports, sockets: Sockets | None) -> Tables:
    """Return what the gateway's configuration says."""
    identity: dict[str, Any] = {
        "enrol_host": HOST,
        "enrol_port": ports.gateway_enrol,
        "cloud_enrol_address": f"{HOST}:{ports.cloud_enrol}",
        "workload_socket": str(layout.workload_socket("gateway")),
    }
    if sockets is not None:
        identity = _given(sockets, sockets.building)
        identity["cloud_workload_api"] = f"unix:{sockets.cloud}"
    return {
        "agent": {"site": SITE, "trust_domain": TRUST_DOMAIN, "state": str(layout.gateway)},
        "broker": {"host": HOST, "port": ports.gateway_mqtt},
        "bridge": {
            "address": f"{HOST}:{ports.cloud_mqtt}",
            "cloud_trust_domain": CLOUD_TRUST_DOMAIN,
        },
        "identity": identity,
        "http": {"host": HOST, "port": ports.gateway_http},
        "policy": {"host": HOST, "port": ports.gateway_policy},
    }


def cloud_tables(layout: Layout, ports: Ports, sockets: Sockets | None) -> Tables:
    """Return what the cloud's configuration says."""
    identity: dict[str, Any] = {
        "enrol_host": HOST,
        "enrol_port": ports.cloud_enrol,
        "workload_socket": str(layout.workload_socket("cloud")),
    }
    if sockets is not None:
        identity = _given(sockets, sockets.cloud)
    return {
        "agent": {"trust_domain": CLOUD_TRUST_DOMAIN, "state": str(layout.cloud)},
        "front": {"host": HOST, "port": ports.cloud_mqtt},
        "identity": identity,
        "http": {"host": HOST, "port": ports.cloud_http},
    }
