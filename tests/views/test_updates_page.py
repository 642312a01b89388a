"""The page of updates in a real browser: it follows a campaign, and says when nobody answers."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from plantroom.cloud import ota_calls
from plantroom.cloud.ota import Updates
from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery, Series
from plantroom.views.web import make_app, serve
from plantroom.wire.link import Message
from tests.fakes.ota_author import read
from tests.fakes.ota_cloud import OtaCloud, assigned, born, manifest, report

WAIT_S = 15.0


async def no_history(_query: HistoryQuery) -> Series | None:
    return None


async def no_status() -> Mapping[str, object]:
    return {}


class Fleet:
    """The real update service, without its broker, behind a page server in a thread of its own."""

    def __init__(self, cloud: OtaCloud, updates: Updates) -> None:
        self.cloud = cloud
        self.updates = updates
        self.release = read(cloud.author.manifest()).digest
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None

    def run(self, bound: threading.Event) -> None:
        async def main() -> None:
            def note(port: int) -> None:
                self.url = f"http://127.0.0.1:{port}/"
                bound.set()

            self._loop = asyncio.get_running_loop()
            app = make_app(
                board=Board(),
                history=no_history,
                status=no_status,
                metrics=list,
                title="Test cloud",
                updates=lambda: ota_calls.shown(self.updates),
            )
            self._serving = asyncio.create_task(serve(app, "127.0.0.1", 0, on_bound=note))
            await asyncio.wait([self._serving])

        asyncio.run(main())
        self._loop = None

    def stop(self) -> None:
        if self._loop is not None and self._serving is not None:
            self._loop.call_soon_threadsafe(self._serving.cancel)

    def take(self, *messages: Message) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.updates.take(messages), self._loop).result(WAIT_S)

    def tick(self) -> list[str]:
        assert self._loop is not None
        said = asyncio.run_coroutine_threadsafe(self.updates.tick(), self._loop).result(WAIT_S)
        return sorted(assigned(said))

    def call(self, capability: str, data: object) -> None:
        assert self._loop is not None
        asked = self.cloud.call(self.updates, capability, data)
        asyncio.run_coroutine_threadsafe(asked, self._loop).result(WAIT_S)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    cloud = OtaCloud(tmp_path)
    with cloud.opened() as updates:
        made = Fleet(cloud, updates)
        bound = threading.Event()
        thread = threading.Thread(target=made.run, args=[bound])
        thread.start()
        assert bound.wait(WAIT_S)
        yield made
        made.stop()
        thread.join(WAIT_S)


def begun(fleet: Fleet, count: int = 6) -> list[str]:
    fleet.take(
        *(born(f"hvac-{number:03d}") for number in range(count)), manifest(fleet.cloud.author)
    )
    groups = [{"count": 2, "success_pct": 100.0}, {}]
    plan = {"name": "spring", "release": fleet.release.hex(), "groups": groups}
    fleet.call("campaign_create", plan)
    return fleet.tick()


def test_a_campaign_is_followed_to_its_end(fleet: Fleet, page: Page) -> None:
    page.goto(fleet.url + "updates")
    expect(page.get_by_role("heading", name="No campaigns yet")).to_be_visible()
    canaries = begun(fleet)
    card = page.locator("[data-name=spring]")
    expect(card.locator(".pill")).to_have_text("running")
    expect(card.locator(".key")).to_contain_text("2 at it")
    fleet.take(
        *(
            report(name, "DOWNLOADING", release=fleet.release, chunks=9, chunks_done=4)
            for name in canaries
        )
    )
    card.locator("summary").click()
    expect(card.locator("tbody tr", has_text=canaries[0])).to_contain_text("4 of 9")
    fleet.take(*(report(name, "UPDATED", number=2, release=fleet.release) for name in canaries))
    rest = fleet.tick()
    expect(card.locator(".groups li").first).to_contain_text("2 of 2 have it")
    fleet.take(*(report(name, "UPDATED", number=2, release=fleet.release) for name in rest))
    fleet.tick()
    expect(card.locator(".pill")).to_have_text("finished")
    expect(card.locator(".key li:visible")).to_have_text("6 have it")
    expect(page.locator("#releases")).to_contain_text("assigned devices")
    expect(page.locator("#audit")).to_contain_text("spring: finished")


def test_a_pause_says_why(fleet: Fleet, page: Page) -> None:
    page.goto(fleet.url + "updates")
    canary, *_ = begun(fleet)
    fleet.take(report(canary, "ROLLED_BACK", number=2, release=fleet.release))
    fleet.tick()
    card = page.locator("[data-name=spring]")
    expect(card.locator(".why")).to_have_text("group 1: 1 of 1 failed")
    expect(card.locator(".pill")).to_have_text("paused")
    expect(page.locator("#fleet")).to_contain_text("rolled back")


def test_a_server_that_is_gone_is_said(fleet: Fleet, page: Page) -> None:
    page.goto(fleet.url + "updates")
    expect(page.locator("#connection")).to_have_text("Live")
    fleet.stop()
    expect(page.locator("#lost")).to_contain_text("Nobody answers")


def test_the_readings_link_to_it(fleet: Fleet, page: Page) -> None:
    page.goto(fleet.url)
    page.get_by_role("link", name="updates").click()
    expect(page.get_by_role("heading", name="Updates", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(fleet: Fleet, page: Page, scheme: str) -> None:
    begun(fleet)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto(fleet.url + "updates")
    expect(page.locator("[data-name=spring]")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
