"""aiomqtt's client with callbacks that keep what it drops.

aiomqtt drops PUBACK reason codes and reason strings, waits out its timeout when the server closes
before CONNACK or while a PUBACK is due, leaves the socket open after a failed CONNECT, and discards
acknowledged messages when its queue is full. Only `plantroom.wire.mqtt_link` uses this module.
"""

import asyncio
import logging
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from plantroom.wire.link import Message

CONNECT_TIMEOUT_S = 5.0
CALLBACKS = tuple(name for name in vars(PahoClient) if name.startswith("on_"))
FAILURE = 0x80  # MQTT 5, 2.4: reason codes from here on say no


class AnsweringClient(aiomqtt.Client):
    """One connection on aiomqtt's socket and loop integration; `make` is aiomqtt's arguments."""

    def __init__(self, incoming_max: int, make: dict[str, Any]) -> None:
        self._memory = _LastError()
        logger = logging.Logger("plantroom.wire.mqtt_client")  # noqa: LOG001 -- not shared, not seen
        logger.addHandler(self._memory)
        super().__init__(**make, logger=logger)
        self._client.connect_timeout = min(CONNECT_TIMEOUT_S, make["timeout"])
        self._client.manual_ack_set(True)
        # One more than the bound: the end must always find room.
        self.incoming: asyncio.Queue[MQTTMessage | None] = asyncio.Queue(incoming_max + 1)
        self.dropped = 0
        self.words = ""
        self.session_present = False
        self._answers: dict[int, asyncio.Future[int]] = {}
        # From the start: aiomqtt forgets an end that comes together with the CONNACK.
        self.ended = False
        self._disconnected.add_done_callback(self._end)

    def last_words(self) -> str:
        """Return why the connection ended, as far as the server or the socket said."""
        return self.words or self._memory.text

    def send(self, message: Message, properties: Properties | None) -> "asyncio.Future[int]":
        """Publish; the answer is the PUBACK's reason code, or 0 once a QoS 0 message is out."""
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, properties
        )
        return self._expect(info.mid, info.rc)

    def ask(self, topic_filter: str, qos: int) -> "asyncio.Future[int]":
        """Subscribe; the answer is the SUBACK's reason code."""
        result, mid = self._client.subscribe(topic_filter, qos)
        return self._expect(mid, result)

    def acknowledge(self, message: MQTTMessage) -> None:
        """Send the PUBACK that a QoS 1 message waits for."""
        if message.qos:
            self._client.ack(message.mid, message.qos)

    def _expect(self, mid: int | None, result: int) -> "asyncio.Future[int]":
        answer: asyncio.Future[int] = self._loop.create_future()
        if result or mid is None or self.ended:
            answer.set_exception(aiomqtt.MqttCodeError(result, error_string(result)))
        else:
            self._answers[mid] = answer
            answer.add_done_callback(lambda _: self._answers.pop(mid, None))
        return answer

    def give_up(self, why: str) -> None:
        """Fail the connect that is under way."""
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(why))

    def _end(self, disconnected: "asyncio.Future[None]") -> None:
        disconnected.exception()  # seen: who waits is told below
        self.ended = True
        for answer in [*self._answers.values()]:
            if not answer.done():
                answer.set_exception(aiomqtt.MqttError("disconnected"))
        self.incoming.put_nowait(None)

    def drop(self) -> None:
        """Close the socket, whatever state it is in, and let go of what holds this; idempotent.

        In a cycle the connection's TLS state would wait for a full collection, which an idle
        process hardly ever makes.
        """
        if self._misc_task is not None:
            self._misc_task.cancel()
            self._misc_task = None
        connection = self._client.socket()
        if connection is not None and connection.fileno() >= 0:
            self._loop.remove_reader(connection.fileno())
            self._loop.remove_writer(connection.fileno())
            connection.close()
        if not self._disconnected.done():
            self._disconnected.set_result(None)
        for name in CALLBACKS:
            setattr(self._client, name, None)

    # paho's callbacks, on the loop: aiomqtt drives the socket from there.

    def _on_socket_register_write(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ARG002 -- paho's signature
        sock: Any,
    ) -> None:
        """Write when the socket has room; aiomqtt's own registers one that is closed by then."""

        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the connection has ended
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)  # connect() runs on another thread

    def _on_connect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.words = getattr(properties, "ReasonString", "")
        self.session_present = bool(flags.session_present)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.words = getattr(properties, "ReasonString", "") or reason_code.getName()
        self.give_up("closed before it answered")
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self,
        client: PahoClient,  # noqa: ARG002 -- paho's signature
        userdata: Any,  # noqa: ARG002
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,  # noqa: ARG002
    ) -> None:
        self._settle(mid, reason_code.value)

    def _on_subscribe(
        self,
        client: PahoClient,  # noqa: ARG002 -- paho's signature
        userdata: Any,  # noqa: ARG002
        mid: int,
        reason_codes: list[ReasonCode],
        properties: Properties | None = None,
    ) -> None:
        self.words = getattr(properties, "ReasonString", "")
        self._settle(mid, reason_codes[0].value if reason_codes else FAILURE)

    def _settle(self, mid: int, code: int) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(code)

    def _on_message(
        self,
        client: PahoClient,  # noqa: ARG002 -- paho's signature
        userdata: Any,  # noqa: ARG002
        message: MQTTMessage,
    ) -> None:
        if self.incoming.qsize() < self.incoming.maxsize - 1:
            self.incoming.put_nowait(message)
        elif message.qos == 0:
            self.dropped += 1
        else:  # unacknowledged, so it comes again; the server sends more than was agreed
            self.words = "the server exceeds our Receive Maximum"
            raise aiomqtt.MqttError(self.words)


class _LastError(logging.Handler):
    """Keeps the last error that paho would have logged: that is where TLS alerts end up."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.text = record.getMessage()
