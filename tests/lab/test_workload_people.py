"""The files of inspector and operator, from our own servers in place of SPIRE's agents."""

import asyncio
from contextlib import closing
from pathlib import Path

from plantroom.lab import people
from plantroom.lab.building import GATEWAY_ID, INSPECTOR_ID, OPERATOR_ID, TRUST_DOMAIN
from plantroom.lab.layout import Layout
from plantroom.lab.workload import Sockets
from plantroom.lab.workload_people import PeopleKeeper
from tests.fakes.waiting import until
from tests.fakes.workload_issuer import Issuer
from tests.lab.conftest import admit


def test_files_are_written_anew_with_every_rotation(
    agents: tuple[Issuer, Issuer],
    layout: Layout,
) -> None:
    below, above = agents
    admit(below, GATEWAY_ID)
    admit(above, OPERATOR_ID)
    above.registry.create(INSPECTOR_ID, selectors=("unix:uid:4711",))
    said: list[str] = []
    sockets = Sockets(below.path, above.path)
    with closing(PeopleKeeper(layout, sockets, tell=said.append)) as keeper:
        keeper.step()
        assert people.load(layout.operator).svid.spiffe_id == OPERATOR_ID
        assert not layout.inspector.cert.exists()
        assert len(said) == 1
        assert f"gives {OPERATOR_ID}, not this ID, {INSPECTOR_ID} at {above.path}" in said[0]
        admit(above, INSPECTOR_ID)

        def written() -> bool:
            keeper.step()
            return layout.inspector.cert.exists()

        until(written, deadline_s=60, what="the inspector's files")
        identity = people.load(layout.inspector)
        assert identity.svid.spiffe_id == INSPECTOR_ID
        roots = {name: one.roots_der for name, one in identity.bundles.items()}
        assert roots[TRUST_DOMAIN] == below.authority.bundle().roots_der  # nobody federates here
        assert roots[above.authority.trust_domain] == above.authority.bundle().roots_der
        assert layout.inspector.ca.read_text().count("BEGIN CERTIFICATE") == 2
        above.registry.create(INSPECTOR_ID, selectors=("unix:uid:0",), ttl_s=100)

        def rotated() -> bool:
            keeper.step()
            return people.load(layout.inspector).svid.serial != identity.svid.serial

        admit(above, INSPECTOR_ID)
        until(rotated, deadline_s=60, what="the inspector's next SVID")
    assert len(said) == 1


def test_an_agent_that_is_away_is_told_once(layout: Layout, tmp_path: Path) -> None:
    said: list[str] = []
    sockets = Sockets(tmp_path / "b.sock", tmp_path / "c.sock")

    async def scenario() -> None:
        loop, enough = asyncio.get_running_loop(), asyncio.Event()

        def tell(text: str) -> None:
            said.append(text)
            if len(said) == 3:
                loop.call_soon_threadsafe(enough.set)

        keeper = PeopleKeeper(layout, sockets, tell=tell)
        with closing(keeper):
            running = asyncio.create_task(keeper.run())
            await asyncio.wait_for(enough.wait(), 20)
            running.cancel()
            await asyncio.wait([running])
            keeper.step()

    asyncio.run(scenario())
    assert all("no socket" in one for one in said)
    assert len(said) == 3  # the building's, and two people at the cloud's
