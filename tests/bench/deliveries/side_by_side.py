"""The same storm over us and over peers: what is lost, what is doubled.

Peers: a Mosquitto that bridges to a Mosquitto, as it ships and saving every change, and
ThingsBoard's gateway. Configurations: `peers/`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from plantroom.lab.chaos import Storm, Verdict, unleash
from tests.bench.brokers import contenders
from tests.bench.brokers.contenders import MissingError
from tests.bench.deliveries import peer, thingsboard
from tests.bench.deliveries.peer import Ends
from tests.bench.deliveries.stack import Bench, Way
from tests.bench.kit.figures import Figure, missing
from tests.bench.kit.running import free_port

SEED, DURATION_S = 7, 40.0
PROFILES = ("storm", "offline")
_AUTOSAVE = {
    "Mosquitto bridge to Mosquitto, saving every change": "autosave_on_changes true\n"
    "autosave_interval 1",
    "Mosquitto bridge to Mosquitto, persistence as it ships": "",
}

Peer = Callable[[Storm], Counter[str]]


def figures(bench: Bench) -> Iterator[Figure]:
    """Run every storm over us and over every peer."""
    peers = dict(_peers(bench))
    for profile in PROFILES:
        storm = Storm(profile=profile, seed=SEED, duration_s=DURATION_S)
        ours = unleash(storm, tell=bench.say, progress=lambda _text: None)
        bench.say(ours.line)
        for name, run in peers.items():
            try:
                theirs = run(storm)
            except MissingError as error:
                yield _missing(storm, name, str(error))
            else:
                yield from _compared(ours, name, theirs)


def _peers(bench: Bench) -> Iterator[tuple[str, Peer]]:
    """Give the peers, installed; one that is not there says so when it is asked to run."""
    try:
        contenders.mosquitto(install=True)
    except MissingError as error:
        why = f"needs Mosquitto: {error}"
        yield from ((name, partial(_absent, why)) for name in (*_AUTOSAVE, thingsboard.NAME))
        return
    for name, autosave in _AUTOSAVE.items():
        yield name, partial(_bridged, bench, name, autosave)
    try:
        yield thingsboard.NAME, partial(thingsboard.run, bench, thingsboard.program(bench))
    except MissingError as error:
        yield thingsboard.NAME, partial(_absent, str(error))


def _absent(why: str, _storm: Storm) -> Counter[str]:
    raise MissingError(why)


def _missing(storm: Storm, name: str, why: str) -> Figure:
    figure = f"lost and duplicated, profile {storm.profile}"
    return missing(figure, peer_name=name, unit="readings", why=why)


def _compared(ours: Verdict, name: str, theirs: Counter[str]) -> Iterator[Figure]:
    storm = ours.storm
    for word in ("lost", "duplicated"):
        mine = float(ours.judged.get(word, -1))
        yield Figure(
            figure=f"{word}, profile {storm.profile}, seed {storm.seed}, {storm.duration_s:g} s",
            unit="readings",
            ours=mine,
            peer=float(theirs[word]),
            peer_name=name,
            target=0,
            ok=mine == 0 and ours.passed,
            better="less",
            note=f"of {ours.judged.get('readings')} ours, {theirs['acked']} acknowledged theirs",
        )


def _bridged(bench: Bench, name: str, autosave: str, storm: Storm) -> Counter[str]:
    """Run the storm over a Mosquitto that bridges to another."""
    folder, ports = bench.folder("mosquitto"), (free_port(), free_port())
    values = {"port": ports[1], "autosave": autosave}
    with ExitStack() as opened:
        cloud = peer.mosquitto(folder / "cloud", "mosquitto-cloud.conf", **values)
        opened.enter_context(cloud.running())
        wan = opened.enter_context(Way(ports[1]).running())
        values |= {"port": ports[0], "cloud": wan.way.address}
        edge = peer.mosquitto(folder / "edge", "mosquitto-edge.conf", **values)
        opened.enter_context(edge.running())
        ends = opened.enter_context(Ends(*ports).connected())
        peer.suffer(storm, {"cloud": cloud, "gateway": edge}, wan, ends)
    bench.say(f"{name}: {dict(ends.counts)}")
    return ends.counts
