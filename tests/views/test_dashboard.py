"""The page in a real browser: it shows values, sees them change, says when nobody answers."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery, Sampled, Series, thin
from plantroom.views.web import make_app, serve
from plantroom.wire.envelope import Presence
from plantroom.wire.reading import Reading
from tests.fakes.deliveries import T0_US, reading
from tests.fakes.ports import free_port

WAIT_S = 15.0


@dataclass
class Site:
    """A page server in a thread of its own, whose board the test changes."""

    board: Board = field(default_factory=Board)
    samples: dict[str, list[Sampled]] = field(default_factory=dict)
    books: list[dict[str, object]] = field(default_factory=list)
    port: int = field(default_factory=free_port)  # it comes back there
    _loop: asyncio.AbstractEventLoop | None = None
    _serving: "asyncio.Task[None] | None" = None

    async def history(self, query: HistoryQuery) -> Series | None:
        samples, rows = thin(self.samples.get(query.point, []), query.points_max)
        return Series(
            site="building-1",
            device=query.device,
            point=query.point,
            unit="Cel",
            samples=samples,
            rows=rows,
        )

    async def status(self) -> Mapping[str, object]:
        queue = {"live": 2, "backfill": 1, "history": 108}
        return {"books": self.books, "link": {"state": "live"}, "queue": queue, "queued": 3}

    def put(self, made: Reading) -> None:
        for point in made.points:
            self.samples.setdefault(point.name, []).append((made.time_us or 0, point.value))
        self.act(lambda: self.board.put(made))

    def act(self, change: Callable[[], object]) -> None:
        if self._loop is None:
            change()
        else:
            self._loop.call_soon_threadsafe(change)

    def run(self, bound: threading.Event) -> None:
        async def main() -> None:
            def note(port: int) -> None:
                self.port = port
                bound.set()

            self._loop = asyncio.get_running_loop()
            app = make_app(
                board=self.board,
                history=self.history,
                status=self.status,
                metrics=list,
                title="Test building",
            )
            self._serving = asyncio.create_task(serve(app, "127.0.0.1", self.port, on_bound=note))
            await asyncio.wait([self._serving])

        asyncio.run(main())
        self._loop = None

    def stop(self) -> None:
        if self._loop is not None and self._serving is not None:
            self._loop.call_soon_threadsafe(self._serving.cancel)


class Running:
    """Starts and stops a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        bound = threading.Event()
        self._thread = threading.Thread(target=self.site.run, args=[bound])
        self._thread.start()
        assert bound.wait(WAIT_S)
        return f"http://127.0.0.1:{self.site.port}/"

    def stop(self) -> None:
        self.site.stop()
        if self._thread is not None:
            self._thread.join(WAIT_S)


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running(Site())
    yield made
    made.stop()


def filled(site: Site, count: int = 60) -> None:
    for seq in range(count):
        if not 20 <= seq < 40:
            site.put(reading(seq))
    info = {"kind": "hvac", "label": "HVAC-SENSOR-001", "place": "Floor-2-Zone-A"}
    site.board.presence("building-1", "hvac-001", Presence(online=True, epoch=1, info=info))


def test_values_appear_and_change(running: Running, page: Page) -> None:
    filled(running.site)
    page.goto(running.start())
    expect(page.get_by_role("heading", name="Floor-2-Zone-A")).to_be_visible()
    value = page.locator(".point", has_text="Temperature").locator("data")
    expect(value).to_have_text("25.9")
    expect(page.locator("#connection")).to_have_text("Live")
    running.site.put(reading(60, temperature=77.25))
    expect(value).to_have_text("77.25")


def test_confirmed_history_is_not_waiting_to_be_sent(running: Running, page: Page) -> None:
    page.goto(running.start())
    tile = page.locator("#tiles > *", has_text="Waiting to be sent")
    expect(tile).to_contain_text("3 readings")


def test_chart_shows_history_with_its_gap_and_grows(running: Running, page: Page) -> None:
    filled(running.site)
    page.goto(running.start())
    chart = page.locator(".point", has_text="Temperature").locator(".chart")
    expect(chart.locator("canvas")).to_be_visible()
    expect(chart).to_have_attribute(
        "aria-label", "Chart of Temperature: from 20 to 25.9 °C, last 25.9"
    )
    data = "element => element.chart.plot.data"
    xs, ys = chart.evaluate(data)
    assert ys.count(None) == 1, "readings 20 to 39 are missing: one gap"
    assert len(xs) == 41
    running.site.put(reading(60, temperature=30.0))
    expect(chart).to_have_attribute("aria-label", "Chart of Temperature: from 20 to 30 °C, last 30")


def test_text_is_drawn_as_states(running: Running, page: Page) -> None:
    for seq in range(10):
        running.site.put(reading(seq, fan_status="on" if seq % 4 else "off"))
    page.goto(running.start())
    chart = page.locator(".point", has_text="Fan status").locator(".chart")
    expect(chart).to_have_attribute("aria-label", "Chart of Fan status: now on, states off, on")


def test_presence_is_shown_and_followed(running: Running, page: Page) -> None:
    filled(running.site)
    page.goto(running.start())
    state = page.locator(".card .pill")
    expect(state).to_have_text("online")
    will = Presence(online=False, epoch=1, at_us=T0_US)
    running.site.act(lambda: running.site.board.presence("building-1", "hvac-001", will))
    expect(state).to_contain_text("offline since")


def test_nothing_yet_is_said_and_the_first_reading_appears(running: Running, page: Page) -> None:
    page.goto(running.start())
    expect(page.get_by_role("heading", name="No readings yet")).to_be_visible()
    running.site.put(reading(0))
    expect(page.get_by_role("heading", name="hvac-001")).to_be_visible()
    expect(page.get_by_role("heading", name="No readings yet")).to_be_hidden()


def test_lost_connection_is_said_and_found_again(running: Running, page: Page) -> None:
    filled(running.site)
    page.goto(running.start())
    expect(page.locator("#connection")).to_have_text("Live")
    running.stop()
    expect(page.get_by_role("alert")).to_contain_text("No connection")
    running.site.put(reading(61, temperature=61.5))
    running.start()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator(".point", has_text="Temperature").locator("data")).to_have_text("61.5")


def test_ledger_names_what_is_outstanding(running: Running, page: Page) -> None:
    filled(running.site)
    running.site.books = [
        {
            "device": "hvac-001",
            "epoch": 1,
            "first": 0,
            "last": 59,
            "count": 40,
            "holes": [[20, 39]],
            "quarantined": 0,
        }
    ]
    page.goto(running.start())
    expect(page.locator("#tiles")).to_contain_text("20 outstanding")
    page.locator("#ledger summary").click()
    expect(page.locator("#books")).to_contain_text("20\u201339")


@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_every_width_in_both_schemes(
    running: Running, browser: Browser, width: int, scheme: Any
) -> None:
    filled(running.site)
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(running.start())
    expect(page.locator(".chart canvas").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 22, 26)") == (scheme == "dark")
    context.close()


def test_range_asks_for_that_much_history(running: Running, page: Page) -> None:
    filled(running.site)
    page.goto(running.start())
    expect(page.locator(".chart canvas").first).to_be_visible()
    with page.expect_request(lambda request: "/api/history" in request.url) as asked:
        page.get_by_label("1 h").check()
    # An hour before the newest reading, which is of 2026-01-01T00:59:00Z, not before today.
    assert "2025-12-31T23%3A59" in asked.value.url
