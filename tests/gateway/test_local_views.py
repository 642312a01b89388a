import asyncio
from typing import Any

from plantroom.gateway.local_views import LocalViews
from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery
from plantroom.wire import envelope
from plantroom.wire.envelope import Presence
from plantroom.wire.link import Message


class Alarms:
    """What is raised, and what is over."""

    def __init__(self) -> None:
        self.raised: list[tuple[str, str, str]] = []
        self.ended: list[tuple[str, str, str]] = []

    def alarm(self, rule: str, device: str, _text: str, *, cause: str = "") -> None:
        self.raised.append((rule, device, cause))

    def over(self, rule: str, device: str, cause: str, _text: str) -> None:
        self.ended.append((rule, device, cause))


def make(rig: Any, lab: Any, alarms: Alarms | None = None) -> tuple[Board, LocalViews]:
    board = Board()
    views = LocalViews(
        board,
        rig.queue,
        site=lab.SITE,
        trust_domain=lab.TRUST_DOMAIN,
        clock=rig.clock,
        alarms=alarms or Alarms(),
    )
    return board, views


def value(board: Board, lab: Any, name: str = "hvac-001") -> object:
    latest = board.point((lab.SITE, name), "temperature")
    return None if latest is None else (latest.epoch, latest.seq)


def test_the_newest_reading_of_what_was_derived_is_shown(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        board, views = make(rig, lab)
        await rig.receive(lab.pack(map(lab.reading, (3, 1, 2))), lab.pack([lab.reading(0)]))
        views.derived(rig.derived)
        assert value(board, lab) == (7, 3)

    asyncio.run(scenario())


def test_after_a_start_the_latest_is_shown_again(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(lab.reading(n, epoch=8) for n in range(3)))
        await rig.receive(lab.pack(lab.reading(n, epoch=5) for n in range(9)))
        await rig.restart()
        board, views = make(rig, lab)
        await views.restore(rig.database)
        assert value(board, lab) == (8, 2)

    asyncio.run(scenario())


def test_history_comes_from_the_queue_in_order_of_time(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        _, views = make(rig, lab)
        await rig.receive(lab.pack(lab.reading(n, value=float(n)) for n in (4, 2, 0, 1, 3)))
        query = HistoryQuery(
            device="hvac-001",
            point="temperature",
            from_us=lab.NOW_US + 1_000_000,
            to_us=lab.NOW_US + 4_000_000,
        )
        series = await views.history(query)
        assert series is not None
        assert [sample[1] for sample in series.samples] == [1.0, 2.0, 3.0]
        assert series.unit == "Cel"
        assert await views.history(HistoryQuery(device="hvac-001", point="nothing")) is None
        other = HistoryQuery(device="hvac-001", point="temperature", site="elsewhere")
        assert await views.history(other) is None

    asyncio.run(scenario())


def test_a_birth_books_heads_and_a_device_that_reports_less_is_noticed(
    make_rig: Any, lab: Any, caplog: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        alarms = Alarms()
        board, views = make(rig, lab, alarms)
        stage = asyncio.create_task(views.run())

        def birth(highest: int, *, epoch: int = 7) -> None:
            presence = Presence(online=True, epoch=epoch, heads={7: highest, -1: 5}, at_us=1)
            topic = f"v1/{lab.SITE}/presence/hvac-001"
            views.present(Message(topic=topic, payload=envelope.encode(presence)), "them")

        birth(9)
        await lab.until(views._births.empty)
        birth(8)  # of its own epoch: said before the last reading, and heard behind it
        await lab.until(views._births.empty)
        birth(4, epoch=8)  # of an epoch that is over
        await lab.until(lambda: views.rolled_back == 1)
        assert alarms.raised == [("rolled-back", lab.device(), "7")]
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        birth(4, epoch=8)
        await lab.until(lambda: alarms.ended == alarms.raised)
        assert views.rolled_back == 1
        birth(9)  # the former epoch is there again: two agents
        await lab.until(lambda: ("cloned-device", lab.device(), "") in alarms.raised)
        stage.cancel()
        await asyncio.gather(stage, return_exceptions=True)
        assert (await rig.book())["highest"] == 9
        assert board.counts() == (1, 1)
        views.present(Message(topic=f"v1/{lab.SITE}/presence/x", payload=b"\xff"), "them")
        assert "presence is refused" in caplog.text

    asyncio.run(scenario())
