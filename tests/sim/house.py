"""The building that sensors connect to: one gateway, or by mischance two with one identity."""

import asyncio
import random
from collections.abc import Sequence

from tests.sim.gateway import Gateway
from tests.sim.network import Connection, Weather
from tests.sim.sensor import Deaf, Door, Sensor


class House:
    """Leads sensors to a gateway.

    With a clone beside it each new connection goes to either; while messages are doubled (one
    address, two machines), what a sensor sends reaches both, and only one is heard to answer.
    """

    def __init__(self, gateway: Gateway, clone: Gateway, weather: Weather) -> None:
        self._gateway, self._clone, self._weather = gateway, clone, weather
        self.has_clone = self.doubled = False

    @property
    def gateways(self) -> list[Gateway]:
        """Those that there are."""
        return [self._gateway, self._clone] if self.has_clone else [self._gateway]

    def bring_clone(self, image: bytes) -> None:
        """Let a second gateway start from a copy of the first one's disk."""
        self._clone.disk.restore(image)
        self.has_clone = True
        self._clone.start()

    async def admit(self, sensor: Sensor, chance: random.Random) -> Door:
        """Let a sensor connect."""
        gateway = chance.choice(self.gateways) if self.has_clone else self._gateway
        await asyncio.sleep(0.01)
        connection = Connection(sensor.name, self._weather, chance)
        return gateway.admit(Door(self, sensor, connection))

    def received(self, door: Door, number: int, packet: bytes) -> None:
        """Take a publish."""
        for gateway in self._reached(door):
            gateway.received(
                door if door in gateway.doors else Deaf(door.connection), number, packet
            )

    def heard_heads(self, door: Door, heads: dict[int, int], current: int) -> None:
        """Take a presence message."""
        for gateway in self._reached(door):
            gateway.heard_heads(door.device, heads, current)

    def _reached(self, door: Door) -> Sequence[Gateway]:
        return [each for each in self.gateways if self.doubled or door in each.doors]
