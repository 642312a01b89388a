"""`plantroom watch FILTER`: decoded messages as they pass."""

import argparse
import asyncio
import contextlib

from plantroom.broker.filters import filter_fault
from plantroom.cli import output
from plantroom.cli.options import layout_of, runs
from plantroom.lab import decoded, tools
from plantroom.wire.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("filter", metavar="FILTER", help="topic filter: v1/building-1/telemetry/#")
    parser.add_argument(
        "--via", choices=tools.BROKERS, default="gateway", help="the broker to watch (gateway)"
    )
    parser.add_argument("--count", metavar="N", type=int, help="end after N messages")
    parser.add_argument("--duration", metavar="S", type=float, help="end after S seconds")
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Watch until told to stop."""
    fault = filter_fault(options.filter)
    if fault is not None:
        remedy = "give a topic filter such as v1/building-1/telemetry/#"
        raise UsageError(fault, where=repr(options.filter), remedy=remedy)
    with contextlib.suppress(TimeoutError):
        asyncio.run(_watch(options))
    return 0


async def _watch(options: argparse.Namespace) -> None:
    layout = layout_of(options)
    async with tools.connected(layout, person="inspector", broker=options.via) as (link, _):
        await link.subscribe(options.filter)
        left = options.count
        async with asyncio.timeout(options.duration):
            async for message in link.messages():
                if options.json:
                    output.document(decoded.plain(message))
                else:
                    output.text("".join(f"{line}\n" for line in decoded.lines(message)))
                left = None if left is None else left - 1
                if left == 0:
                    return
