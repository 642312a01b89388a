"""Who is in a building: the devices that a set of flags asks for, each with its name and place."""

from dataclasses import dataclass

from plantroom.certs.roles import CLOUD_TRUST_DOMAIN, SERVICES
from plantroom.wire.spiffe import SpiffeId

KINDS = ("hvac", "occupancy", "energy")
TRUST_DOMAIN = "building-1.smart.local"
SITE = "building-1"
GATEWAY_ID = SpiffeId(TRUST_DOMAIN, "agent/gateway")
UPLINK_ID = SpiffeId(CLOUD_TRUST_DOMAIN, f"gateway/{SITE}")
FRONT_ID = SpiffeId(CLOUD_TRUST_DOMAIN, "agent/front")
INGESTION_ID = SpiffeId(CLOUD_TRUST_DOMAIN, "agent/ingestion")
OTA_ID = SpiffeId(CLOUD_TRUST_DOMAIN, "agent/ota")
CLOUD_IDS = tuple(SpiffeId(CLOUD_TRUST_DOMAIN, f"agent/{service}") for service in SERVICES)
OPERATOR_ID = SpiffeId(CLOUD_TRUST_DOMAIN, "operator/local")
INSPECTOR_ID = SpiffeId(CLOUD_TRUST_DOMAIN, "inspector/local")

_LABELS = {"hvac": "HVAC-SENSOR", "occupancy": "OCCUPANCY", "energy": "ENERGY"}
_DESCRIPTIONS = {
    "hvac": "HVAC sensor: temperature, humidity, fan",
    "occupancy": "occupancy sensor: count and motion",
    "energy": "energy meter: energy and demand",
}
_ZONES = "ABCD"
_FLOORS = 8
_FIRST_FLOOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One sensor: `name` ends its SPIFFE ID and topics, `label` is its type plate."""

    name: str
    label: str
    kind: str
    place: str
    description: str
    seed: int = 1
    replay: str | None = None
    map_file: str | None = None

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who it is."""
        return SpiffeId(TRUST_DOMAIN, f"agent/{self.name}")


class Names:
    """Gives each name once: the one that is wished for, or the next number of its stem."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, wished: str) -> str:
        """Return `hvac-001` if it is free, else `hvac-002` …; a name without number gets one."""
        name = wished
        stem, _, digits = wished.rpartition("-")
        number = int(digits) if digits.isdecimal() and stem else 1
        stem = stem if digits.isdecimal() and stem else wished
        while name in self._taken:
            number += 1
            name = f"{stem}-{number:03d}"
        self._taken.add(name)
        return name


def simulated(count: int, *, seed: int, names: Names) -> tuple[Device, ...]:
    """Make `count` simulated sensors of rotating kinds, one zone after the other."""
    return tuple(_simulated(number, seed=seed, names=names) for number in range(count))


def _simulated(number: int, *, seed: int, names: Names) -> Device:
    kind = KINDS[number % len(KINDS)]
    name = names.give(f"{kind}-001")
    return Device(
        name=name,
        label=f"{_LABELS[kind]}-{name.rpartition('-')[2]}",
        kind=kind,
        place=place(number // len(KINDS)),
        description=_DESCRIPTIONS[kind],
        seed=seed + number,
    )


def place(room: int) -> str:
    """Name the zone of a room; the first is `Floor-2-Zone-A`."""
    floor, zone = divmod(room, len(_ZONES))
    return f"Floor-{_FIRST_FLOOR + floor % _FLOORS}-Zone-{_ZONES[zone]}"
