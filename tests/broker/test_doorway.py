import asyncio

import pytest

from plantroom.broker.doorway import Doorway
from plantroom.broker.settings import BrokerLimits


def test_an_address_has_so_many_places_and_gets_them_back() -> None:
    doorway = Doorway(BrokerLimits(address_waiting_max=2))
    first, second = doorway.enter("a"), doorway.enter("a")
    assert first is not None
    assert second is not None
    assert doorway.enter("a") is None
    assert doorway.enter("b") is not None
    first.leave()
    first.leave()
    assert len(doorway) == 2
    assert doorway.enter("a") is not None


def test_one_address_cannot_take_every_turn() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(handshakes_max=2, address_handshakes_max=1, handshake_timeout_s=0.2)
        doorway = Doorway(limits)
        here, again, there = doorway.enter("a"), doorway.enter("a"), doorway.enter("b")
        assert here
        assert again
        assert there
        async with doorway.turn(here):
            with pytest.raises(TimeoutError):
                async with doorway.turn(again):
                    raise AssertionError("a second turn of one address")
            async with doorway.turn(there):
                assert doorway.handshakes == 2
                await asyncio.sleep(0.3)  # longer than the wait for a turn may be
        async with doorway.turn(again):
            assert doorway.handshakes == 1
        for place in (here, again, there):
            place.leave()
        assert (doorway.handshakes, len(doorway), doorway._turns_of) == (0, 0, {})

    asyncio.run(scenario())
