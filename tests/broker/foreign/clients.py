"""Other people's client libraries behind one small face, so that one suite speaks through each."""

import asyncio
import importlib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.broker.foreign.stand import HOST, Address

TIMEOUT_S = 20.0
EXPIRY_S = 600


class Got(NamedTuple):
    """A message as the library shows it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Foreign(Protocol):
    """One connection of one client."""

    async def open(
        self, client_id: str, *, clean: bool = True, will: Got | None = None
    ) -> bool | None:
        """Connect; return session present, None where the library does not say."""
        ...

    async def subscribe(self, topic_filter: str, qos: int) -> None: ...

    async def publish(self, message: Got) -> None: ...

    async def next(self) -> Got: ...

    async def close(self) -> None:
        """Say goodbye."""
        ...

    async def cut(self) -> None:
        """Break the connection without a goodbye."""
        ...


class Paho:
    """paho-mqtt, with its own thread."""

    def __init__(self, address: Address, version: int) -> None:
        self._address = address
        self._version = version
        self._got: asyncio.Queue[Got] = asyncio.Queue()
        self._connected: asyncio.Future[bool]
        self._subscribed: asyncio.Future[None]

    async def open(self, client_id: str, *, clean: bool = True, will: Got | None = None) -> bool:
        loop = asyncio.get_running_loop()
        self._connected = loop.create_future()
        extra: dict[str, Any] = {} if self._version == 5 else {"clean_session": clean}
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion(self._version),
            **extra,
        )
        self._loop = loop
        client.on_message = self._arrived
        client.on_connect = self._answered
        client.on_subscribe = self._granted
        context = self._address.context()
        if context:
            client.tls_set_context(context)
            client.tls_insecure_set(True)
        if will:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        options: dict[str, Any] = {}
        if self._version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if clean else EXPIRY_S
            options = {"clean_start": clean, "properties": properties}
        await asyncio.to_thread(client.connect, HOST, self._address.port, 60, **options)
        client.loop_start()
        return await asyncio.wait_for(self._connected, TIMEOUT_S)

    # Called in paho's thread.

    def _arrived(self, _client: Any, _user: Any, message: paho.MQTTMessage) -> None:
        got = Got(message.topic, bytes(message.payload), message.qos, message.retain)
        self._loop.call_soon_threadsafe(self._got.put_nowait, got)

    def _answered(self, _client: Any, _user: Any, flags: Any, code: Any, _more: Any) -> None:
        self._loop.call_soon_threadsafe(self._settle, flags.session_present, code)

    def _granted(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._subscribed.set_result, None)

    def _settle(self, present: bool, code: Any) -> None:  # noqa: FBT001 -- a callback
        if not self._connected.done():
            assert not code.is_failure, code
            self._connected.set_result(present)

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        self._subscribed = asyncio.get_running_loop().create_future()
        self._client.subscribe(topic_filter, qos)
        await asyncio.wait_for(self._subscribed, TIMEOUT_S)

    async def publish(self, message: Got) -> None:
        info = self._client.publish(*message)
        await asyncio.to_thread(info.wait_for_publish, TIMEOUT_S)
        assert info.is_published()

    async def next(self) -> Got:
        return await asyncio.wait_for(self._got.get(), TIMEOUT_S)

    async def close(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def cut(self) -> None:
        found: Any = self._client.socket()
        self._client.reconnect_delay_set(60, 60)
        found.shutdown(socket.SHUT_RDWR)
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)


class Aiomqtt:
    """aiomqtt."""

    def __init__(self, address: Address, version: int) -> None:
        self._address = address
        self._version = version

    async def open(self, client_id: str, *, clean: bool = True, will: Got | None = None) -> None:
        extra: dict[str, Any] = {"clean_session": clean}
        if self._version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if clean else EXPIRY_S
            extra = {"clean_start": clean, "properties": properties}
        context = self._address.context()
        self._client = aiomqtt.Client(
            HOST,
            self._address.port,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion(self._version),
            will=aiomqtt.Will(*will) if will else None,
            tls_context=context,
            tls_insecure=True if context else None,
            timeout=TIMEOUT_S,
            **extra,
        )
        await self._client.__aenter__()
        self._messages = aiter(self._client.messages)

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        await self._client.subscribe(topic_filter, qos)

    async def publish(self, message: Got) -> None:
        await self._client.publish(*message)

    async def next(self) -> Got:
        found = await asyncio.wait_for(anext(self._messages), TIMEOUT_S)
        assert isinstance(found.payload, bytes)
        return Got(str(found.topic), found.payload, found.qos, found.retain)

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)

    async def cut(self) -> None:
        found: Any = self._client._client.socket()
        found.shutdown(socket.SHUT_RDWR)
        with suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)


class Gmqtt:
    """gmqtt."""

    def __init__(self, address: Address, version: int) -> None:
        self._address = address
        self._version = version
        self._got: asyncio.Queue[Got] = asyncio.Queue()

    async def open(
        self, client_id: str, *, clean: bool = True, will: Got | None = None
    ) -> bool | None:
        gmqtt: Any = importlib.import_module("gmqtt")
        present: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        extra = {} if clean or self._version != 5 else {"session_expiry_interval": EXPIRY_S}
        message = gmqtt.Message(*will) if will else None
        client = gmqtt.Client(client_id, clean_session=clean, will_message=message, **extra)
        client.set_config({"reconnect_retries": 0})
        client.on_connect = lambda _c, flags, _rc, _p: present.set_result(bool(flags & 1))
        client.on_message = self._take
        self._acknowledged = asyncio.Event()
        client.on_subscribe = lambda *_: self._acknowledged.set()
        self._client = client
        context = self._address.context()
        await client.connect(HOST, self._address.port, ssl=context or False, version=self._version)
        return await asyncio.wait_for(present, TIMEOUT_S)

    async def _take(
        self, _client: Any, topic: str, payload: bytes, qos: int, properties: dict[str, Any]
    ) -> int:
        self._got.put_nowait(Got(topic, payload, qos, bool(properties["retain"])))
        return 0

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        self._acknowledged.clear()
        self._client.subscribe(topic_filter, qos)
        await asyncio.wait_for(self._acknowledged.wait(), TIMEOUT_S)

    async def publish(self, message: Got) -> None:
        self._client.publish(*message)

    async def next(self) -> Got:
        return await asyncio.wait_for(self._got.get(), TIMEOUT_S)

    async def close(self) -> None:
        with suppress(ssl.SSLError):  # it reads on behind its own close_notify
            await self._client.disconnect()

    async def cut(self) -> None:
        self._client._connection._transport.abort()


class Amqtt:
    """amqtt's client, which speaks 3.1.1 only."""

    def __init__(self, address: Address, version: int) -> None:
        assert version == 4
        self._address = address

    async def open(self, client_id: str, *, clean: bool = True, will: Got | None = None) -> None:
        module: Any = importlib.import_module("amqtt.client")
        config: dict[str, Any] = {"auto_reconnect": False, "check_hostname": False, "plugins": {}}
        files, scheme = self._address.files, "mqtt"
        if files:
            scheme = "mqtts"
            config["connection"] = {
                "cafile": str(files.ca),
                "certfile": str(files.cert),
                "keyfile": str(files.key),
            }
        if will:
            config["will"] = {
                "topic": will.topic,
                "message": will.payload.decode(),
                "qos": will.qos,
                "retain": will.retain,
            }
        self._client = module.MQTTClient(client_id, config=config)
        await self._client.connect(f"{scheme}://{HOST}:{self._address.port}/", cleansession=clean)

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        await self._client.subscribe([(topic_filter, qos)])

    async def publish(self, message: Got) -> None:
        await self._client.publish(
            message.topic, message.payload, qos=message.qos, retain=message.retain
        )

    async def next(self) -> Got:
        found = await self._client.deliver_message(TIMEOUT_S)
        packet = found.publish_packet
        return Got(found.topic, bytes(found.data), packet.qos, packet.retain_flag)

    async def close(self) -> None:
        await self._client.disconnect()

    async def cut(self) -> None:
        self._client._handler.writer._writer.transport.abort()


PYTHON_CLIENTS: dict[tuple[str, int], Callable[[Address, int], Foreign]] = {
    ("paho", 4): Paho,
    ("paho", 5): Paho,
    ("aiomqtt", 4): Aiomqtt,
    ("aiomqtt", 5): Aiomqtt,
    ("gmqtt", 4): Gmqtt,
    ("gmqtt", 5): Gmqtt,
    ("amqtt", 4): Amqtt,
}
