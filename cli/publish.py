"""`plantroom publish TOPIC`: one message, as the operator."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from plantroom.cli import output
from plantroom.cli.options import layout_of, runs
from plantroom.lab import tools
from plantroom.wire import cbor
from plantroom.wire.errors import RefusedError, UsageError
from plantroom.wire.link import Message

FAILURE = 0x80


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("topic", metavar="TOPIC")
    payload = parser.add_mutually_exclusive_group()
    payload.add_argument("--text", metavar="TEXT", help="the payload as it is")
    payload.add_argument("--cbor", metavar="JSON", help="the payload as CBOR of this JSON")
    payload.add_argument("--file", metavar="FILE", help="the payload's file, - for standard input")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--retain", action="store_true", help="keep it for later subscribers")
    parser.add_argument(
        "--via", choices=tools.BROKERS, default="gateway", help="the broker to send to (gateway)"
    )
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Send it and wait for the broker's answer."""
    if not options.topic or "#" in options.topic or "+" in options.topic:
        what = "a topic is empty" if not options.topic else "a topic has no wildcards"
        raise UsageError(what, where=repr(options.topic), remedy="name one topic")
    message = Message(
        topic=options.topic, payload=_payload(options), qos=options.qos, retain=options.retain
    )
    code = asyncio.run(_send(options, message))
    if code >= FAILURE:
        raise RefusedError(
            f"the broker refuses the message (reason code 0x{code:02x})",
            reason=f"0x{code:02x}",
            where=options.topic,
            remedy="see why: plantroom policy explain",
        )
    if options.json:
        output.document({"topic": options.topic, "reason_code": code})
    return 0


async def _send(options: argparse.Namespace, message: Message) -> int:
    layout = layout_of(options)
    async with tools.connected(layout, person="operator", broker=options.via) as (link, _):
        return await link.publish(message)


def _payload(options: argparse.Namespace) -> bytes:
    if options.text is not None:
        return str(options.text).encode()
    if options.cbor is not None:
        try:
            return cbor.dumps(json.loads(options.cbor))
        except ValueError as error:
            raise UsageError(f"not JSON: {error}", where="--cbor", remedy="mend it") from error
    if options.file == "-":
        return sys.stdin.buffer.read()
    if options.file is not None:
        try:
            return Path(options.file).read_bytes()
        except OSError as error:
            raise UsageError(
                f"cannot read it: {error.strerror}", where=options.file, remedy="give a file"
            ) from error
    return b""
