"""Root rotation: its order, what peers see at each step, and a kill at every write."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import atomic
from plantroom.certs.authority import Authority
from plantroom.certs.authority_rotation import SPREAD_S, Rotation
from plantroom.certs.embedded import EmbeddedSource, issue_svid
from plantroom.wire.errors import CheckFailedError, UsageError
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.handshakes import Caller, meet

DOMAIN = "building-1.smart.local"
HOUR_S = 3600


@pytest.fixture
def rotation(building: Authority, tmp_path: Path, clock: Any) -> Rotation:
    assert building.trust_domain == DOMAIN
    return Rotation(tmp_path / "building-authority", DOMAIN, clock=clock)


def states(rotation: Rotation) -> dict[str, str]:
    return {root.name: root.state for root in rotation.status()[1]}


def trusting(bundle: TrustBundle, svid: Svid) -> Identity:
    return Identity(svid=svid, bundles={bundle.trust_domain: bundle}, revision=1)


def test_the_whole_life_of_a_root(
    rotation: Rotation, building: Authority, sensor_id: SpiffeId, clock: Any
) -> None:
    issue_svid(building, sensor_id, ttl_s=HOUR_S)
    first = building.bundle()
    assert rotation.prepare() == "root-2"
    building.refresh()
    assert building.bundle().sequence == first.sequence + 1
    assert building.bundle().roots_der[0] == first.roots_der[0]
    assert len(building.bundle().roots_der) == 2

    clock.offset_s = SPREAD_S + 1
    assert rotation.activate() == "root-2"
    assert states(rotation) == {"root-1": "old", "root-2": "active"}

    clock.offset_s = SPREAD_S + HOUR_S
    assert rotation.retire() == "root-1"
    building.refresh()
    assert building.bundle().sequence == first.sequence + 3
    assert first.roots_der[0] not in building.bundle().roots_der
    assert states(rotation) == {"root-2": "active"}


def test_no_step_comes_before_its_time(
    rotation: Rotation, building: Authority, sensor_id: SpiffeId, clock: Any
) -> None:
    issue_svid(building, sensor_id, ttl_s=12 * HOUR_S)
    with pytest.raises(UsageError, match="no root is prepared"):
        rotation.activate()
    with pytest.raises(UsageError, match="cannot go"):
        rotation.retire(force=True)
    rotation.prepare()
    with pytest.raises(UsageError, match="prepared already"):
        rotation.prepare()
    with pytest.raises(CheckFailedError, match="can have heard"):
        rotation.activate()
    rotation.activate(force=True)
    with pytest.raises(UsageError, match="retire it first"):
        rotation.prepare()
    clock.offset_s = 11 * HOUR_S
    with pytest.raises(CheckFailedError, match="still valid"):
        rotation.retire()
    clock.offset_s = 12 * HOUR_S + 120
    rotation.retire()
    assert rotation.prepare() == "root-3"


def test_a_prepared_root_can_be_withdrawn(rotation: Rotation, tmp_path: Path) -> None:
    rotation.prepare()
    assert rotation.retire() == "root-2"
    assert states(rotation) == {"root-1": "active"}
    assert not list((tmp_path / "building-authority").glob("root-2*"))


def test_each_peer_is_understood_by_those_who_know_the_old_root_only_and_the_new_only(
    rotation: Rotation, building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    old_bundle, old_svid = building.bundle(), issue_svid(building, sensor_id, ttl_s=HOUR_S)
    rotation.prepare()
    rotation.activate(force=True)
    new = issue_svid(building, gateway_id, ttl_s=HOUR_S)
    both = building.bundle()
    only_new = TrustBundle(trust_domain=DOMAIN, roots_der=both.roots_der[1:])

    for bundle in (old_bundle, both, only_new):
        assert meet(trusting(bundle, new), new) == gateway_id
    assert meet(trusting(both, new), old_svid) == sensor_id
    assert meet(trusting(only_new, new), old_svid) == "unknown-issuer"


def test_a_session_that_is_offered_again_after_its_root_was_removed_is_refused(
    rotation: Rotation, building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    before, caller = building.bundle(), Caller(issue_svid(building, sensor_id, ttl_s=HOUR_S))
    served = issue_svid(building, gateway_id, ttl_s=HOUR_S)
    assert caller.calls(trusting(before, served)) == sensor_id
    assert caller.session is None or not caller.session.has_ticket
    rotation.prepare()
    rotation.activate(force=True)
    rotation.retire(force=True)
    served = issue_svid(building, gateway_id, ttl_s=HOUR_S)
    assert caller.calls(trusting(building.bundle(), served)) == "unknown-issuer"


def test_after_the_old_root_is_retired_it_is_not_shown_any_more(
    rotation: Rotation, building: Authority, gateway_id: SpiffeId
) -> None:
    rotation.prepare()
    rotation.activate(force=True)
    assert issue_svid(building, gateway_id, ttl_s=60).chain_pem.count(b"BEGIN") == 2
    rotation.retire(force=True)
    assert issue_svid(building, gateway_id, ttl_s=60).chain_pem.count(b"BEGIN") == 1


def test_a_running_source_follows_by_itself(
    rotation: Rotation, building: Authority, gateway_id: SpiffeId
) -> None:
    async def main() -> None:
        source = EmbeddedSource(building, gateway_id, ttl_s=HOUR_S)
        first = source.current()
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            rotation.prepare()
            prepared = await source.changed(first.revision)
            assert len(prepared.bundles[DOMAIN].roots_der) == 2
            rotation.activate(force=True)
            active = await source.changed(prepared.revision)
            assert active.svid.chain_pem.count(b"BEGIN") == 2
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_what_is_retired_leaves_no_key_behind(rotation: Rotation, tmp_path: Path) -> None:
    rotation.prepare()
    rotation.activate(force=True)
    rotation.retire(force=True)
    kept = {file.name for file in (tmp_path / "building-authority").glob("root-*")}
    assert kept == {"root-2.key", "root-2.pem"}


class KilledError(Exception):
    """The process ends here."""


STEPS: list[tuple[str, Callable[[Rotation], object]]] = [
    ("prepare", lambda rotation: rotation.prepare()),
    ("activate", lambda rotation: rotation.activate(force=True)),
    ("retire", lambda rotation: rotation.retire(force=True)),
]


@pytest.mark.parametrize("survives", range(6))
@pytest.mark.parametrize("killed", ["prepare", "activate", "retire"])
def test_killed_before_any_write_of_any_step_it_goes_on(  # noqa: PLR0913, PLR0917 -- fixtures
    rotation: Rotation,
    sensor_id: SpiffeId,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    clock: Any,
    killed: str,
    survives: int,
) -> None:
    left = survives

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def write(*args: Any, **options: Any) -> None:
            nonlocal left
            if not left:
                raise KilledError
            left -= 1
            real(*args, **options)

        return write

    for name, step in STEPS:
        with monkeypatch.context() as patched:
            if name == killed:
                patched.setattr(atomic, "write", dying(atomic.write))
                patched.setattr(atomic, "remove", dying(atomic.remove))
            with contextlib.suppress(KilledError):
                step(rotation)
        opened = Authority.open(tmp_path / "building-authority", DOMAIN, clock=clock)
        issue_svid(opened, sensor_id, ttl_s=60)
        if name == killed:
            with contextlib.suppress(UsageError):  # said again: it was done, or it is done now
                step(rotation)
    assert len(states(rotation)) in {1, 2}
    assert "active" in states(rotation).values()
