"""Administration: a Unix socket that only the broker's own user may open; JSON lines both ways.

One line asks, `{"ask": "sessions"}`; the answer is one line for each row, `{"row": {…}}`, then
`{"end": 3}` or `{"error": "…"}`. What it asks for is not subject to policy: whoever may open the
socket could as well read the broker's database.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from plantroom.broker.filters import filter_fault
from plantroom.broker.server import Broker
from plantroom.wire.errors import ConfigError, PlantroomError, UsageError
from plantroom.wire.unix_socket import peer_of, short_address

LOGGER = logging.getLogger("plantroom.broker.admin")
SOCKET = "broker.sock"
LINE_BYTES_MAX = 8192
TIMEOUT_S = 60.0
_AT_ONCE = 4
_ROWS_AT_ONCE = 200

Row = Mapping[str, Any]


@asynccontextmanager
async def administered(broker: Broker, path: Path) -> AsyncIterator[Broker]:
    """Run a broker, and answer on a socket, until the end of the block.

    Raises:
        ConfigError: when it cannot be made there.
    """
    desk = _Desk(broker)
    async with broker:
        server = await asyncio.start_unix_server(desk.serve, sock=_bind(path), limit=LINE_BYTES_MAX)
        remove = partial(path.unlink, missing_ok=True)
        try:
            yield broker
        finally:
            server.close()
            await desk.close()
            remove()


def _bind(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(path) as address:
            if made.connect_ex(address) == 0:
                raise ConfigError(
                    "another broker answers there", where=str(path), remedy="stop that one"
                )
            path.unlink(missing_ok=True)  # it was left behind by one that was killed
            made.bind(address)
        path.chmod(0o600)  # before anybody can connect: it does not listen yet
    except ConfigError:
        made.close()
        raise
    except OSError as error:
        made.close()
        raise ConfigError(
            f"cannot make the socket: {error.strerror}",
            where=str(path),
            remedy="choose another place for it",
        ) from error
    return made


class _Desk:
    """Answers whoever comes, a few at a time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection: one question."""
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= _AT_ONCE or not _is_ours(writer):
            writer.close()
            return
        self._tasks.add(task)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._answer(await reader.readline(), writer)
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: the line is too long
            LOGGER.warning("an administrator got no answer: %s", error or type(error).__name__)
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        count = 0
        try:
            for row in await ask(self._broker, line):
                writer.write(_line({"row": row}))
                count += 1
                if count % _ROWS_AT_ONCE == 0:
                    await writer.drain()
                    await asyncio.sleep(0)  # the broker has others to serve
        except PlantroomError as error:
            writer.write(_line({"error": str(error)}))
        else:
            writer.write(_line({"end": count}))

    async def close(self) -> None:
        """End what is being answered."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TIMEOUT_S)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Say whether the other end is this user or root, where the kernel tells; the mode says so."""
    found = writer.get_extra_info("socket")
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    return peer_of(found, follow=False).uid in {0, os.geteuid()}


async def ask(broker: Broker, line: bytes) -> Iterable[Row]:
    """Do what one line asks for; return the rows of the answer.

    Raises:
        UsageError: when it asks for nothing that there is.
        StorageError: when what was to be forgotten could not be.
    """
    try:
        asked = json.loads(line)
        what, about = asked["ask"], asked.get("about", "")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"not a question: {error}") from error
    if what == "sessions":
        return (asdict(session) for session in broker.sessions())
    if what == "kick" and isinstance(about, str):
        return [{"closed": broker.kick(about)}]
    if what in {"retained", "prune"} and isinstance(about, str):
        fault = filter_fault(about)
        if fault is not None:
            raise UsageError(f"{about!r}: {fault}")
        if what == "retained":
            return (asdict(row) for row in broker.retained(about))
        return [{"forgotten": await broker.forget_retained(about)}]
    raise UsageError(f"not a question: {what!r}")
