"""`plantroom call`: ask a device or a service to do something."""

import argparse
import asyncio
import json
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, runs, spiffe_id
from plantroom.lab import calling, tools
from plantroom.wire.errors import UsageError

TIMEOUT_S = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add = parser.add_argument
    add("--target", metavar="SPIFFE_ID", required=True, type=spiffe_id, help="whom to ask")
    add("--capability", metavar="NAME", required=True, help="what it shall do: read_sensors")
    add("--data", metavar="JSON", default="{}", help="the request's data (default {})")
    add("--timeout", metavar="S", type=float, default=TIMEOUT_S, help="seconds to wait (10)")
    add("--idempotency-key", metavar="K", help="the same key twice is done once")
    add("--via", choices=tools.BROKERS, help="the broker to ask through (else the nearest)")
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Ask, and print the answer as JSON."""
    asked = calling.Asked(
        target=options.target,
        capability=options.capability,
        data=_data(options.data),
        timeout_s=options.timeout,
        idempotency_key=options.idempotency_key,
    )
    answer = asyncio.run(calling.call(layout_of(options), asked, broker=options.via))
    if options.json:
        output.document(answer)
    else:
        output.line(json.dumps(answer, ensure_ascii=False, indent=2))
    return 0


def _data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"not JSON: {error}", where="--data", remedy='give --data "{}"') from error
