from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette

from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery, Series
from plantroom.views.web import SECURITY_HEADERS, make_app
from plantroom.wire.errors import StorageError
from plantroom.wire.metrics import Metric
from tests.fakes.asking import get
from tests.fakes.deliveries import T0_US, reading


def app(**changes: Any) -> Starlette:
    board = Board()
    board.put(reading(0, a=1.5))
    board.put(reading(0, device="spiffe://building-2.smart.local/agent/energy-001", kwh=2.0))

    async def history(query: HistoryQuery) -> Series | None:
        if query.point != "a":
            return None
        return Series(
            site=query.site or "building-1",
            device=query.device,
            point="a",
            unit=None,
            samples=((query.from_us or T0_US, query.points_max), (T0_US + 500_000, 2.0)),
            rows=7,
        )

    async def status() -> Mapping[str, object]:
        return {"kind": "test"}

    made: dict[str, Any] = {
        "board": board,
        "history": history,
        "status": status,
        "metrics": lambda: [Metric("plantroom_x_total", "counter", "x", 3)],
        "title": "Test",
    }
    return make_app(**(made | changes))


def test_latest_gives_every_device_or_those_asked_for() -> None:
    devices = get(app(), "/api/latest").json()["devices"]
    assert [(each["site"], each["device"]) for each in devices] == [
        ("building-1", "hvac-001"),
        ("building-2", "energy-001"),
    ]
    (one,) = get(app(), "/api/latest?site=building-2").json()["devices"]
    assert one["points"]["kwh"]["value"] == 2.0
    assert get(app(), "/api/latest?device=nobody").json() == {"devices": []}


def test_history_passes_the_question_on_and_gives_times_as_text() -> None:
    path = "/api/history?device=hvac-001&point=a&from=2026-01-01&points_max=99"
    answer = get(app(), path).json()
    assert answer["times"] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"]
    assert answer["values"] == [99, 2.0]
    assert answer["rows"] == 7


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 400, "device"),
        ("?device=x", 400, "point"),
        ("?device=x&point=unknown", 404, "no such point"),
        ("?device=x&point=a&from=yesterday", 400, "not a time"),
        ("?device=x&point=a&points_max=0", 400, "points_max"),
        ("?device=x&point=a&points_max=many", 400, "points_max"),
        ("?device=x&point=a&points_max=99999999999999999999", 400, "points_max"),
    ],
)
def test_wrong_question_is_answered_with_what_is_wrong(query: str, status: int, word: str) -> None:
    answer = get(app(), f"/api/history{query}")
    assert answer.status_code == status
    assert word in answer.json()["error"]


def test_trouble_of_the_store_is_one_line_and_no_traceback() -> None:
    async def broken(_: HistoryQuery) -> Series | None:
        raise StorageError("database: disk I/O error", where="store.db")

    answer = get(app(history=broken), "/api/history?device=x&point=a")
    assert (answer.status_code, answer.json()["error"]) == (
        500,
        "database: disk I/O error, store.db",
    )


def test_health_readiness_status_and_metrics() -> None:
    assert get(app(), "/healthz").text == "ok\n"
    assert get(app(), "/readyz").status_code == 200
    waiting = get(app(ready=lambda: "no disk"), "/readyz")
    assert (waiting.status_code, waiting.text) == (503, "no disk\n")
    assert get(app(), "/api/status").json() == {"kind": "test"}
    metrics = get(app(), "/metrics")
    assert "plantroom_x_total 3" in metrics.text
    assert "version=0.0.4" in metrics.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/api/latest", "/static/app.js", "/nothing", "/metrics"])
def test_every_answer_has_the_security_headers(path: str) -> None:
    headers = get(app(), path).headers
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("cloud", 200),
        ("plantroom.example", 200),
        ("rebound.attacker.example", 421),
        ("rebound.attacker.example:8080", 421),
        ("127.0.0.1.attacker.example", 421),
    ],
)
def test_names_that_others_may_own_are_refused(host: str, status: int) -> None:
    made = app(hosts=["plantroom.example"])
    assert get(made, "/healthz", host=host).status_code == status


def test_one_browser_too_many_is_told_to_come_back() -> None:
    answer = get(app(browsers_max=0), "/feed")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_only_reading_is_possible() -> None:
    made = app()
    for route in made.routes:
        assert getattr(route, "methods", set()) <= {"GET", "HEAD"}
