import asyncio

import pytest

from plantroom.broker.memory import MemorySink
from plantroom.wire.errors import StorageFullError
from tests.broker.test_sink import EVERYTHING, batch


def test_fault_fails_the_commit_and_nothing_of_it_is_kept() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        sink.fault = StorageFullError("no space left")
        with pytest.raises(StorageFullError):
            await sink.commit(batch(*EVERYTHING, segment=b"x"))
        state = await sink.load()
        assert not (state.sessions)
        assert state.log_bytes == 0

    asyncio.run(scenario())
