"""`plantroom up`: a building and its cloud on this machine."""

import argparse
from pathlib import Path
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, runs
from plantroom.lab.flags import DEVICES_DEFAULT, EMBEDDED, WORKLOAD_API, Given
from plantroom.lab.plan import UnmappedError
from plantroom.lab.ports import BASE_DEFAULT, BASE_MAX, BASE_MIN
from plantroom.lab.up import Goal, up
from plantroom.lab.workload import path_of
from plantroom.wire.errors import UsageError

DEVICES_MAX = 1000
SPEED_MAX = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = "A flag that is not given keeps its value from the last start in this folder."
    add = parser.add_argument
    add(
        "--replay",
        metavar="CSV",
        action="append",
        default=[],
        type=Path,
        help="replay a recorded room as one sensor; may be repeated",
    )
    add("--map", metavar="TOML", type=Path, help="mappings from columns to points, for --replay")
    add("--speed", metavar="N", type=float, help="take readings N times as fast (default 1)")
    add(
        "--devices",
        metavar="N",
        type=int,
        help=f"simulated sensors (default {DEVICES_DEFAULT}, with --replay 0)",
    )
    add("--seed", metavar="N", type=int, help="seed of the simulated sensors (default 1)")
    add(
        "--port-base",
        metavar="N",
        type=int,
        help=f"first of seven TCP ports on the loopback address (default {BASE_DEFAULT})",
    )
    add(
        "--identity",
        choices=(EMBEDDED, WORKLOAD_API),
        help=f"who issues SVIDs: an issuer of one's own in each trust domain ({EMBEDDED}, the"
        f" default), or SPIRE's agents ({WORKLOAD_API})",
    )
    for domain in ("building", "cloud"):
        add(
            f"--{domain}-socket",
            metavar="SOCKET",
            help=f"socket of the SPIRE agent of the {domain}'s trust domain, for"
            f" --identity {WORKLOAD_API}",
        )
    add(
        "--socket-owner",
        metavar="USER",
        help="user who may own these sockets, beside root and yourself",
    )
    add("--duration", metavar="S", type=float, help="end after S seconds")
    add(
        "--exit-when-stored",
        action="store_true",
        help="end with 0 once every replayed row is in the cloud store and the ledger closes",
    )
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Check the flags and run the building."""
    _in_range("--devices", options.devices, 0, DEVICES_MAX)
    _in_range("--speed", options.speed, 0.001, SPEED_MAX)
    _in_range("--port-base", options.port_base, BASE_MIN, BASE_MAX)
    _in_range("--duration", options.duration, 0, None)
    given = Given(
        replays=tuple(str(path.absolute()) for path in options.replay),
        map_file=str(options.map.absolute()) if options.map else None,
        devices=options.devices,
        speed=options.speed,
        seed=options.seed,
        port_base=options.port_base,
        identity=options.identity,
        building_socket=options.building_socket and path_of(options.building_socket),
        cloud_socket=options.cloud_socket and path_of(options.cloud_socket),
        socket_owner=options.socket_owner,
    )
    goal = Goal(duration_s=options.duration, stored=options.exit_when_stored)
    voice = _Voice(as_json=options.json)
    try:
        return up(layout_of(options), given, goal, voice)
    except UnmappedError as error:
        output.text(error.proposal)
        raise
    finally:
        voice.progress_line.clear()


def _in_range(flag: str, value: float | None, low: float, high: float | None) -> None:
    if value is not None and not (value >= low and (high is None or value <= high)):
        span = f"{low:g} or more" if high is None else f"from {low:g} to {high:g}"
        raise UsageError(f"{flag} {value:g} is out of range", remedy=f"give {span}")


class _Voice:
    """Speaks to a person, or gives a script its one line."""

    def __init__(self, *, as_json: bool) -> None:
        self.progress_line = output.Progress()
        self._as_json = as_json

    def tell(self, text: str) -> None:
        self.progress_line.clear()
        output.note(text)

    def progress(self, text: str) -> None:
        self.progress_line.show(text)

    def ready(self, addresses: dict[str, Any]) -> None:
        self.progress_line.clear()
        if self._as_json:
            output.document(addresses)
        else:
            output.text(_summary(addresses))


def _summary(addresses: dict[str, Any]) -> str:
    inspector = addresses["inspector"]
    host, _, port = addresses["gateway"]["mqtt"].removeprefix("mqtts://").partition(":")
    return f"""\
Everything is running.

  Dashboard        {addresses["dashboard"]}
  Building's page  {addresses["gateway"]["http"]}/
  Gateway broker   {addresses["gateway"]["mqtt"]}
  Cloud broker     {addresses["cloud"]["mqtt"]}

  MQTT Explorer    host {host}, port {port}, encryption on, and under Advanced > Certificates:
                   server certificate (CA)  {inspector["ca"]}
                   client certificate       {inspector["cert"]}
                   client key               {inspector["key"]}

  In another shell plantroom status, plantroom watch 'v1/building-1/telemetry/#'
  State            {addresses["state"]}
  Stop             Ctrl-C here, or plantroom down
"""
