"""Other people's clients against our broker: both versions where they have them, plain and mTLS."""

import asyncio
import gc
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count

import pytest

from tests.broker.foreign.clients import PYTHON_CLIENTS, Foreign, Got
from tests.broker.foreign.node import MqttJs
from tests.broker.foreign.stand import HOST, Address, Stand, standing

pytestmark = pytest.mark.filterwarnings("default")  # what other people's code warns of is theirs
CLIENTS = {**PYTHON_CLIENTS, ("mqtt.js", 4): MqttJs, ("mqtt.js", 5): MqttJs}
COMMAND_S = 30
LINES = ("stdbuf", "-oL")  # into a pipe, it would keep them
_NUMBERS = count()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("stand")) as found:
        yield found
    gc.collect()  # sockets that a library forgot are its own affair, not the next module's


@pytest.fixture(params=["plain", "mtls"])
def address(request: pytest.FixtureRequest, stand: Stand) -> Address:
    return stand.plain if request.param == "plain" else stand.secured


@pytest.fixture
def topic() -> str:
    """A topic of the test's own."""
    return f"t{next(_NUMBERS)}"


@pytest.fixture(params=sorted(CLIENTS), ids=lambda key: f"{key[0]}-{key[1]}")
def library(request: pytest.FixtureRequest, address: Address) -> "Library":
    name, version = request.param
    return Library(name, version, address)


class Library:
    """Makes clients of one kind."""

    def __init__(self, name: str, version: int, address: Address) -> None:
        self.name = name
        self.version = version
        self._address = address

    def __call__(self) -> Foreign:
        return CLIENTS[self.name, self.version](self._address, self.version)


def test_every_qos_goes_round(library: Library, topic: str) -> None:
    async def scenario() -> None:
        client = library()
        await client.open(f"{topic}-c")
        await client.subscribe(f"{topic}/+", 2)
        sent = [
            Got(f"{topic}/{qos}", b"\0payload \xff" * 50, qos, retain=False) for qos in range(3)
        ]
        for message in sent:
            await client.publish(message)
        assert sorted([await client.next() for _ in sent]) == sent
        await client.close()

    asyncio.run(scenario())


def test_retained_message_meets_a_new_subscriber(library: Library, topic: str) -> None:
    async def scenario() -> None:
        first, second = library(), library()
        await first.open(f"{topic}-a")
        kept = Got(f"{topic}/kept", b"value", 1, retain=True)
        await first.publish(kept)
        await first.subscribe(f"{topic}/kept", 1)  # answered behind the publish
        assert (await first.next())[:3] == kept[:3]
        await second.open(f"{topic}-b")
        await second.subscribe(f"{topic}/#", 1)
        assert await second.next() == kept
        await first.publish(Got(f"{topic}/kept", b"", 1, retain=True))
        assert (await second.next()).payload == b""
        for client in (first, second):
            await client.close()

    asyncio.run(scenario())


def test_will_of_a_client_that_vanishes(library: Library, topic: str) -> None:
    async def scenario() -> None:
        watcher, mortal = library(), library()
        await watcher.open(f"{topic}-w")
        await watcher.subscribe(f"{topic}/will", 1)
        will = Got(f"{topic}/will", b"gone", 1, retain=False)
        await mortal.open(f"{topic}-m", will=will)
        await mortal.cut()
        assert await watcher.next() == will
        await watcher.close()

    asyncio.run(scenario())


def test_session_is_resumed_with_what_came_meanwhile(library: Library, topic: str) -> None:
    async def scenario() -> None:
        away, busy = library(), library()
        assert not await away.open(f"{topic}-p", clean=False)
        await away.subscribe(f"{topic}/#", 2)
        await away.close()
        await busy.open(f"{topic}-q")
        sent = [
            Got(f"{topic}/{number}", b"%d" % number, 1 + number % 2, False) for number in range(5)
        ]
        for message in sent:
            await busy.publish(message)
        await busy.subscribe("done", 1)
        back = library()
        assert await back.open(f"{topic}-p", clean=False) in {True, None}
        got = [await back.next() for _ in sent]
        for qos in (1, 2):  # clients hand QoS 2 on with PUBREL: in order among themselves
            assert [one for one in got if one.qos == qos] == [m for m in sent if m.qos == qos]
        assert len(got) == len(sent)
        for client in (back, busy):
            await client.close()

    asyncio.run(scenario())


def test_session_of_mqtt_explorer(address: Address, topic: str) -> None:
    """MQTT Explorer is mqtt.js over 3.1.1: `#`, then `$SYS/#`, both at QoS 0."""

    async def scenario() -> None:
        writer, explorer = MqttJs(address, 5), MqttJs(address, 4)
        await writer.open(f"{topic}-w")
        await writer.publish(Got(f"{topic}/a", b"1", 1, retain=True))
        await explorer.open(f"mqtt-explorer-{topic}")
        await explorer.subscribe("#", 0)
        await explorer.subscribe("$SYS/#", 0)
        await writer.publish(Got(f"{topic}/b", b"2", 1, retain=False))
        seen: set[tuple[str, bool]] = set()  # a tick sends the values of `$SYS` again, live
        expected = {(f"{topic}/a", True), (f"{topic}/b", False), ("$SYS/broker/version", True)}
        while not expected <= seen:
            got = await explorer.next()
            seen.add((got.topic, got.retain))
        assert not seen & {(f"{topic}/a", False), (f"{topic}/b", True)}
        await writer.publish(Got(f"{topic}/a", b"", 1, retain=True))
        for client in (writer, explorer):
            await client.close()

    asyncio.run(scenario())


# mosquitto_pub, mosquitto_sub ---------------------------------------------------------------------


def mosquitto(program: str, address: Address, version: int) -> list[str]:
    if shutil.which(program) is None:
        pytest.skip(f"{program} (Debian's mosquitto-clients) is not installed here")
    words = [program, "-h", HOST, "-p", str(address.port), "-V", "5" if version == 5 else "311"]
    if address.files:
        files = {
            "--cafile": address.files.ca,
            "--cert": address.files.cert,
            "--key": address.files.key,
        }
        words += [word for name, path in files.items() for word in (name, str(path))]
        words.append("--insecure")  # the name in the certificate is a SPIFFE ID
    return words


def say(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", [4, 5])
def test_mosquitto_pub_and_sub(address: Address, version: int, topic: str) -> None:
    publish, listen = (mosquitto(f"mosquitto_{x}", address, version) for x in ("pub", "sub"))
    persistent = [*listen, "-i", f"{topic}-s", "-c", "-q", "2", "-t", f"{topic}/#"]
    if version == 5:
        persistent += ["-x", "600"]
    say([*persistent, "-E"])  # subscribes, and leaves
    for qos in range(3):
        say([*publish, "-t", f"{topic}/{qos}", "-m", f"m{qos}", "-q", str(qos)])
    got = say([*persistent, "-C", "2", "-F", "%t %q %r %p"])
    assert got.splitlines() == [f"{topic}/1 1 0 m1", f"{topic}/2 2 0 m2"]
    say([*publish, "-t", f"{topic}/kept", "-m", "kept", "-r", "-q", "1"])
    assert say([*listen, "-t", f"{topic}/kept", "-C", "1", "-F", "%r %p"]) == "1 kept\n"


@pytest.mark.parametrize("version", [4, 5])
def test_mosquitto_sub_leaves_its_will(address: Address, version: int, topic: str) -> None:
    listen = mosquitto("mosquitto_sub", address, version)
    watching = subprocess.Popen(
        [*LINES, *listen, "-t", f"{topic}/will", "-C", "1", "-d", "-W", str(COMMAND_S)],
        stdout=subprocess.PIPE,
        text=True,
    )
    dying = ("--will-topic", f"{topic}/will", "--will-payload", "gone", "--will-qos", "1")
    mortal = subprocess.Popen(
        [*LINES, *listen, "-t", f"{topic}/x", "-d", *dying],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for process in (watching, mortal):
            assert process.stdout is not None
            assert any("SUBACK" in line for line in process.stdout)
        mortal.kill()
        rest, _ = watching.communicate(timeout=COMMAND_S)
        assert rest.splitlines()[-1] == "gone" or "gone\n" in rest
    finally:
        for process in (watching, mortal):
            process.kill()
            process.communicate()
