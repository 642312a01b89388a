"""A server that speaks as much of OPA's REST API as we use, and breaks as it is told to."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from plantroom.policies.embedded import EmbeddedPoint


class Facade:
    """Answers from an embedded engine, unless `fault` says what to do instead.

    Only what is asked with `POST /v1/data/mqtt` is spoiled: data are taken as they come.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.data: dict[str, Any] = {}
        self.asked = 0
        self.deliveries = 0
        self.refuses_data = False
        self.bundle_revision = "1"
        self._point = EmbeddedPoint.load()
        self._release = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ")
                length = 0
                while (head := await reader.readline()).strip():
                    name, _, value = head.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = await reader.readexactly(length)
                answer = await self._answer(method, path.partition("?")[0], body)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, path: str, body: bytes) -> bytes | None:
        value: Any = json.loads(body) if body else None
        if method == "PUT":
            return self._put(path.removeprefix("/v1/data/"), value)
        if method == "PATCH":
            for one in value:
                self.data.setdefault("system", {})[one["path"].strip("/")] = one["value"]
            return self._taken()
        if path == "/v1/data/system":
            bundles = {"b": {"manifest": {"revision": self.bundle_revision}}}
            return reply(200, {"result": self.data.get("system", {}) | {"bundles": bundles}})
        if path == "/v1/data/revocation/generation":
            known = self.data.get("revocation", {})
            return reply(200, {"result": known["generation"]} if known else {})
        self.asked += 1
        if self.fault:
            return await self._spoiled()
        return await self._decided(path, value["input"])

    def _put(self, name: str, value: Any) -> bytes:
        if self.refuses_data:
            return reply(500, {"code": "internal_error", "message": "no"})
        if name in {"registry", "revocation"}:
            self.deliveries += 1
            self.data[name] = value
        return self._taken()

    @staticmethod
    def _taken() -> bytes:
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    async def _decided(self, path: str, document: Any) -> bytes:
        known = {name: self.data[name] for name in ("registry", "revocation") if name in self.data}
        self._point.update(**known)
        values = await self._point.query(path.removeprefix("/v1/data/"), document)
        return reply(200, {"result": values[0]} if values else {})

    async def _spoiled(self) -> bytes | None:
        if self.fault in SAYS:
            return SAYS[self.fault]
        if self.fault == "slow":
            await self._release.wait()
        return None

    def close(self) -> None:
        self._release.set()
        self._point.close()


def reply(status: int, value: object, *, raw: bytes | None = None) -> bytes:
    body = json.dumps(value).encode() if raw is None else raw
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


SAYS = {
    "error": reply(500, {"code": "internal_error", "message": "no"}),
    "unavailable": reply(503, {}),
    "forbidden": reply(401, {"code": "unauthorized"}),
    "undefined": reply(200, {}),
    "malformed": reply(200, {"result": {"allow": True, "reason": "revoked"}}),
    "not json": reply(200, None, raw=b"allow!"),
    "endless": reply(200, None, raw=b'{"result": "' + b"x" * (1 << 20) + b'"}'),
    "half": reply(200, {"result": {"allow": True}})[:-5],
    "redirect": b"HTTP/1.1 307 Elsewhere\r\nLocation: /v1/data/allow\r\nContent-Length: 0\r\n\r\n",
    "null": reply(200, None),
    "list": reply(200, ["allow"]),
    "allows without words": reply(200, {"result": {"allow": True}}),
    "no http": b"yes\n",
}
FAULTS = (*SAYS, "slow", "hangs up")


@asynccontextmanager
async def facade(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Facade, int]]:
    made = Facade()
    writers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(reader, writer))
        writers.add(task)
        task.add_done_callback(writers.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        made.close()
        server.close()
        for task in list(writers):
            task.cancel()
        if writers:
            await asyncio.wait(list(writers), timeout=5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await server.wait_closed()
