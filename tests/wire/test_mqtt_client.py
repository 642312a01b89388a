"""What the link does not show: sockets that are closed, callbacks that come late or twice."""

import asyncio
import socket
from typing import Any, cast

import aiomqtt
import pytest

from plantroom.wire.mqtt_client import AnsweringClient


def made(port: int) -> AnsweringClient:
    options: dict[str, Any] = {
        "hostname": "127.0.0.1",
        "port": port,
        "timeout": 1.0,
        "protocol": aiomqtt.ProtocolVersion.V5,
    }
    return AnsweringClient(4, options)


def test_timeout_of_connack_leaves_no_socket_once_dropped() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(100):
                pass
            gone.set()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            client = made(server.sockets[0].getsockname()[1])
            client.timeout = 0.1
            with pytest.raises(aiomqtt.MqttError, match="timed out"):
                await client.__aenter__()
            client.drop()
            client.drop()
            async with asyncio.timeout(5):
                await gone.wait()

    asyncio.run(main())


def test_asking_after_the_end_fails_at_once() -> None:
    async def main() -> None:
        client = made(1)
        client.drop()
        await asyncio.sleep(0)  # the end is told by the loop
        assert client.ended
        with pytest.raises(aiomqtt.MqttError):
            await client.ask("a", 1)
        assert await client.incoming.get() is None

    asyncio.run(main())


def test_giving_up_twice_or_after_an_answer_changes_nothing() -> None:
    async def main() -> None:
        client = made(1)
        client.give_up("first")
        client.give_up("second")
        assert str(client._connected.exception()) == "first"

    asyncio.run(main())


def test_a_socket_that_is_closed_before_its_turn_is_not_registered() -> None:
    async def main() -> None:
        faults: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: faults.append(context))
        client = made(1)
        here, there = socket.socketpair()
        with there:
            client._on_socket_register_write(client._client, None, here)
            here.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        client.drop()
        assert faults == []

    asyncio.run(main())


def test_what_fails_while_writing_ends_the_connection() -> None:
    async def main() -> None:
        client = made(1)
        here, there = socket.socketpair()

        class Broken:
            def loop_write(self) -> None:
                raise BrokenPipeError

        with here, there:
            client._on_socket_register_write(cast("Any", Broken()), None, here)
            async with asyncio.timeout(10):
                with pytest.raises(BrokenPipeError):
                    await client._disconnected
            asyncio.get_running_loop().remove_writer(here)
        assert client.ended
        client.drop()

    asyncio.run(main())
