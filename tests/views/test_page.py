import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Route

from plantroom.views.page import STATIC, Page
from tests.fakes.asking import get


def app(title: str = "Test") -> Starlette:
    page = Page(STATIC, title=title)
    routes = [Route("/", page.index), Route("/static/{name}", page.file)]
    return Starlette(routes=routes)


def test_title_is_escaped() -> None:
    text = get(app("<b>&"), "/").text
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text


def test_file_is_revalidated_by_its_etag() -> None:
    made = app()
    first = get(made, "/static/app.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    again = get(made, "/static/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_unknown_file_and_paths_outside_are_not_served() -> None:
    made = app()
    assert get(made, "/static/nope.js").status_code == 404
    assert get(made, "/static/..%2fpage.py").status_code == 404
    assert get(made, "/static/index.html").status_code == 404, "the template itself is not a file"


def test_everything_that_the_page_loads_is_served_from_here() -> None:
    made = app()
    page = get(made, "/").text
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert get(made, address).status_code == 200, address
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"""(?:src|href|url|from|import)\s*[=(]?\s*["'(]https?://""", text), (
            path
        )


def test_scripts_and_styles_keep_to_the_policy() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)


def test_vendored_library_has_its_licence_beside_it() -> None:
    licence = (STATIC / "uplot.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in licence
    assert (
        (STATIC / "uplot.min.js").read_text(encoding="utf-8").startswith("/*! https://github.com")
    )
    assert Path(STATIC / "uplot.min.js").stat().st_size < 60_000
