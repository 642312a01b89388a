"""mqtt.js, installed by npm into a folder of the user's cache, in a process of its own."""

import asyncio
import base64
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.broker.foreign.clients import TIMEOUT_S, Got
from tests.broker.foreign.stand import Address
from tests.fakes.npm import installed

VERSION = "5.16.0"
SCRIPT = Path(__file__).with_name("client.mjs")


def folder() -> Path:
    """Return where mqtt.js is; skip, saying why, where it cannot be."""
    return installed("mqtt", VERSION)


class MqttJs:
    """One connection of mqtt.js."""

    def __init__(self, address: Address, version: int) -> None:
        self._address = address
        self._version = version
        self._got: asyncio.Queue[Got] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def open(self, client_id: str, *, clean: bool = True, will: Got | None = None) -> bool:
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(SCRIPT),
            str(await asyncio.to_thread(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(), name="test.node")
        files = self._address.files
        answer = await self._do(
            "open",
            port=self._address.port,
            version=self._version,
            client_id=client_id,
            clean=clean,
            will=_plain(will) if will else None,
            files={name: str(path) for name, path in asdict(files).items()} if files else None,
        )
        return bool(answer["present"])

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "message" in said:
                one = said["message"]
                payload = base64.b64decode(one["payload"])
                self._got.put_nowait(Got(one["topic"], payload, one["qos"], one["retain"]))
            else:
                self._answers.put_nowait(said["answer"])

    async def _do(self, what: str, **values: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **values}).encode() + b"\n")
        answer = await asyncio.wait_for(self._answers.get(), TIMEOUT_S)
        assert not answer.get("error"), answer
        return answer

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        await self._do("subscribe", topic=topic_filter, qos=qos)

    async def publish(self, message: Got) -> None:
        await self._do("publish", **_plain(message))

    async def next(self) -> Got:
        return await asyncio.wait_for(self._got.get(), TIMEOUT_S)

    async def close(self) -> None:
        await self._do("close")
        await self._end()

    async def cut(self) -> None:
        await self._do("cut")
        await self._end()

    async def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), TIMEOUT_S)
        await asyncio.wait_for(self._reading, TIMEOUT_S)


def _plain(message: Got) -> dict[str, Any]:
    payload = base64.b64encode(message.payload).decode()
    return {**message._asdict(), "payload": payload}
