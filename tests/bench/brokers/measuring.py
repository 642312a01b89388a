"""One run of one broker under one load, and pairs of such runs, ours beside a peer's."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.brokers.contenders import Contender
from tests.bench.kit import identities, loadgen
from tests.bench.kit.figures import Pair
from tests.bench.kit.identities import GATEWAY, SITE
from tests.bench.kit.loadgen import Seen
from tests.bench.kit.running import Running

CLIENTS = 100
SENSORS = 1000
TOPIC = f"v1/{SITE}/telemetry/{{name}}"
FILTER = f"v1/{SITE}/telemetry/#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the clients do. `offline`: a persistent session waits for it all, unconnected."""

    arguments: tuple[str, ...]
    offline: bool = False
    topic: str = TOPIC
    publishers: str = f"bench:{CLIENTS}"
    warmup_s: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: what the generator saw, and the broker's CPU seconds."""

    seen: Seen
    cpu_s: float

    @property
    def acked_per_s(self) -> float:
        return self.seen.acked_per_s

    @property
    def received_per_s(self) -> float:
        return self.seen.received_per_s

    @property
    def cpu_s_per_100k(self) -> float:
        """CPU seconds for 100,000 messages that were acknowledged."""
        return self.cpu_s / max(self.seen.acked, 1) * 100_000

    @property
    def generator_load(self) -> float:
        """Part of one core that the generator used."""
        return self.seen.cpu_s / self.seen.run_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all runs share: folders, generator, how long a run is, and how often one is repeated."""

    work: Path
    program: Path
    identities: Path
    seconds: float
    pairs: int
    deadline_s: float
    say: Callable[[str], None]
    loads: list[float] = field(default_factory=list)

    @contextmanager
    def load(self, broker: Running, *arguments: str, tls: bool = True) -> Iterator[loadgen.Load]:
        """Connect clients to a broker."""
        where = ["--port", str(broker.port)]
        if tls:
            where += ["--identities", str(self.identities)]
        with loadgen.load(self.program, [*where, *arguments]) as connected:
            yield connected

    def run(self, contender: Contender, scenario: Scenario) -> Sample:
        """Start a broker, load it once, stop it."""
        with ExitStack() as stack:
            broker = stack.enter_context(contender.start(self.work, self.identities))
            if scenario.offline:
                arguments = ("--subscribers", GATEWAY, "--filter", FILTER, "--persistent")
                with self.load(broker, *arguments):
                    pass
            sample = self.measure(broker, scenario)
        self.loads.append(sample.generator_load)
        self.say(
            f"{contender.name}: {sample.acked_per_s:,.0f} acked/s,"
            f" {sample.received_per_s:,.0f} received/s, p99 {sample.seen.p99_ms:.2f} ms"
        )
        return sample

    def measure(self, broker: Running, scenario: Scenario) -> Sample:
        """Load a broker that runs."""
        arguments = [
            *("--publishers", scenario.publishers, "--topic", scenario.topic),
            *("--seconds", str(self.seconds), "--warmup", str(scenario.warmup_s)),
            *(("--persistent",) if scenario.offline else ()),
            *scenario.arguments,
        ]
        with self.load(broker, *arguments) as load:
            before_s = broker.cpu_s()
            seen = load.go()
            return Sample(seen=seen, cpu_s=broker.cpu_s() - before_s)

    def compare(
        self,
        ours: tuple[Contender, Scenario],
        peer: tuple[Contender, Scenario],
        *,
        pairs: int | None = None,
    ) -> list[tuple[Sample, Sample]]:
        """Run ours and a peer's in turns, each first every other time."""
        found: list[tuple[Sample, Sample]] = []
        for number in range(pairs or self.pairs):
            if found and time.monotonic() > self.deadline_s:
                break
            if number % 2:
                theirs = self.run(*peer)
                found.append((self.run(*ours), theirs))
            else:
                mine = self.run(*ours)
                found.append((mine, self.run(*peer)))
        return found


def values(samples: list[tuple[Sample, Sample]], value: Callable[[Sample], float]) -> list[Pair]:
    """Take one value of each sample."""
    return [Pair(value(ours), value(peer)) for ours, peer in samples]


@contextmanager
def bench(
    folder: Path, *, quick: bool, say: Callable[[str], None], budget_s: float
) -> Iterator[Bench]:
    """Compile the generator and make the identities, in a folder that goes afterwards."""
    work = folder / f"plantroom-bench-{time.monotonic_ns()}"
    work.mkdir(parents=True)
    try:
        where = work / "identities"
        count = CLIENTS if quick else SENSORS
        identities.write(where, [f"bench-{number:05d}" for number in range(count)])
        yield Bench(
            work=work,
            program=loadgen.build(work),
            identities=where,
            seconds=1.0 if quick else 2.0,
            pairs=2 if quick else 5,
            deadline_s=time.monotonic() + budget_s,
            say=say,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
