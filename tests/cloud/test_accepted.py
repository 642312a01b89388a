import asyncio
from pathlib import Path

import pytest

from plantroom.cloud.accepted import Accepted, Given, Number
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import UsageError
from tests.fakes.deliveries import DEVICE


def given(*names: bytes) -> list[Given]:
    return [Given(name=name, device=DEVICE, time_us=5) for name in names]


def number(path: Path, *calls: tuple[bytes, list[Given]]) -> list[list[Number]]:
    """One life of the process."""

    async def main() -> list[list[Number]]:
        accepted = Accepted(path / "accepted.db", clock=SystemClock(), random_bits=lambda _: 7)
        try:
            return [await accepted.number(asked, asked, each) for asked, each in calls]
        finally:
            accepted.close()

    return asyncio.run(main())


def test_what_comes_again_has_the_number_it_had_also_after_a_start(tmp_path: Path) -> None:
    first, second = number(tmp_path, (b"1", given(b"a", b"b")), (b"2", given(b"b", b"c")))
    assert [each.seq for each in (*first, *second)] == [0, 1, 1, 2]
    assert len({each.epoch for each in (*first, *second)}) == 1
    (again,) = number(tmp_path, (b"1", given(b"a", b"d")))
    assert again[0] == first[0]
    assert again[1].epoch > first[0].epoch, "a start begins an epoch of its own"
    assert again[1].seq == 0


def test_one_key_is_for_one_content(tmp_path: Path) -> None:
    async def main() -> None:
        accepted = Accepted(tmp_path / "accepted.db", clock=SystemClock(), random_bits=lambda _: 7)
        await accepted.number(b"key", b"content", given(b"a"))
        await accepted.number(b"key", b"content", given(b"a"))
        with pytest.raises(UsageError, match="used for something else"):
            await accepted.number(b"key", b"other", given(b"z"))
        accepted.close()

    asyncio.run(main())
