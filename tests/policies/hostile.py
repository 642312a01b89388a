"""Input documents that somebody who means harm would send, from a seed."""

import random
from collections.abc import Iterator
from typing import Any

BUILDING = "spiffe://building-1.smart.local/agent/"
CLOUD = "spiffe://smart-building.cloud/"
JUNK: tuple[Any, ...] = (
    *(None, 1, -1, 2, 3, 0, 1.0, 0.5, 1e300, 10**30, True, False),
    *("", [], {}, "x", ["a"], {"a": 1}, [None], "é" * 50, "true", "\x00", "\n"),
)
LEVELS = (
    *("telemetry", "presence", "call", "reply", "twin", "desired", "reported", "alarm", "view"),
    *("uplink", "denylist", "bundle", "ota", "head", "get", "state", "manifest", "assign", "fw"),
    *("building-1", "building-2", "building-10", "cloud", "smart-building.cloud"),
    *("building-1.smart.local", "building-1.evil", "hvac-001", "hvac-002", "gateway", "v1", "v2"),
    *("cloud:operator:ann", "cloud:ota", "cloud:gateway:building-1", "read_sensors", "resend"),
    *("+", "#", "", "$SYS", "$share", "g", "{site}", "{name}", "{self}", "{building}", "{cloud}"),
    *("{domain:building-1}", "..", "%2B", "é", "a+", "#b", "ß", "\x00", "*", "[", "{"),
)
IDS = (
    *(BUILDING + name for name in ("hvac-001", "hvac-002", "gateway", "ghost", "", "..", "a/b")),
    *(CLOUD + path for path in ("agent/ota", "agent/dashboard", "agent/devices", "agent/front")),
    *(CLOUD + path for path in ("agent/ingestion", "gateway/building-1", "operator/ann")),
    *(CLOUD + path for path in ("inspector/eve", "operator/zoe", "agent/nobody", "operator")),
    *("spiffe://BUILDING-1.smart.local/agent/hvac-001", "spiffe://x/agent/a", "spiffe://", "hvac"),
    *("spiffe://building-1.smart.local/agent/hvac-001\n", "spiffe://cloud/agent/hvac-001"),
    *("spiffe://building-1.smart.local/agent/{self}", "spiffe://building-1.smart.local//hvac-001"),
)
FIELDS = ("spiffe_id", "cert_serial", "client_id", "action", "topic", "qos", "retain")


def topic(dice: random.Random) -> str:
    """A topic or filter: a grant's shape with levels of all kinds, or anything at all."""
    levels = [dice.choice(LEVELS) for _ in range(dice.choice((0, 1, 2, 3, 4, 5, 5, 6, 7, 20)))]
    if dice.random() < 0.8:
        levels = ["v1", dice.choice(("building-1", "cloud", "+", "building-2")), *levels[:4]]
    if dice.random() < 0.1:
        levels = ["$share", dice.choice(("g", "+", "")), *levels]
    return "/".join(levels)


SENSIBLE = (
    "v1/building-1/telemetry/hvac-001",
    "v1/building-1/presence/hvac-001",
    "v1/building-1/twin/hvac-001/desired",
    "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann",
    "v1/building-1/call/hvac-001/resend/gateway",
    "v1/building-1/call/gateway/receive_reading/hvac-001",
    "v1/building-1/call/hvac-002/read_sensors/hvac-001",
    "v1/building-1/denylist/building-1.smart.local",
    "v1/building-1/bundle/smart-building.cloud",
    "v1/building-1/uplink/gateway/live",
    "v1/building-1/reply/hvac-001/7",
    "v1/+/uplink/+/+",
    "v1/building-1/ota/head",
    "#",
    "$SYS/#",
)


def document(dice: random.Random) -> Any:
    """One input: nearly right, or not at all."""
    who = dice.choice(IDS)
    made: Any = {
        "spiffe_id": who,
        "cert_serial": dice.choice(("0A", "0A", "FF", "")),
        "client_id": dice.choice((who.rpartition("/")[2], "x", "ingestion-2", "")),
        "action": dice.choice(("connect", "publish", "publish", "subscribe", "subscribe", "call")),
        "topic": dice.choice(SENSIBLE) if dice.random() < 0.4 else topic(dice),
        "qos": dice.choice((0, 1, 2)),
        "retain": dice.random() < 0.3,
    }
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
        name = dice.choice(FIELDS)
        match dice.randrange(4):
            case 0:
                made.pop(name, None)
            case 1:
                made[dice.choice(("allow", "data", "input", "role", ""))] = dice.choice(JUNK)
            case _:
                made[name] = dice.choice(JUNK)
    return dice.choice(JUNK) if dice.random() < 0.01 else made


def documents(count: int, *, seed: int) -> Iterator[Any]:
    """Give so many inputs."""
    dice = random.Random(seed)  # noqa: S311 -- a seed, so that a failure replays
    for _ in range(count):
        yield document(dice)
