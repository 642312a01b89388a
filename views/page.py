"""The page's files, read once at start and served from memory with an ETag each."""

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    kind: str
    etag: str


def _file(body: bytes, suffix: str) -> _File:
    return _File(body, _TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:20]}"')


class Page:
    """The pages under their title, and the files that they load; `links` go to further pages.

    They are revalidated at every load (a 304 each): an upgrade shows at once, without versions.
    """

    def __init__(
        self, folder: Path, *, title: str, links: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._files = {
            path.name: _file(path.read_bytes(), path.suffix) for path in folder.iterdir()
        }
        more = "".join(
            f' · <a href="{html.escape(path)}">{html.escape(text)}</a>'
            for path, text in links.items()
        )
        self._pages = {
            name: _file(_filled(self._files.pop(name).body, title, more), ".html")
            for name in ("index.html", "updates.html")
        }

    async def index(self, request: Request) -> Response:
        """Serve the page of readings."""
        return _answer(request, self._pages["index.html"])

    async def updates(self, request: Request) -> Response:
        """Serve the page of updates."""
        return _answer(request, self._pages["updates.html"])

    async def file(self, request: Request) -> Response:
        """Serve one of its files."""
        found = self._files.get(request.path_params["name"])
        return _answer(request, found) if found else PlainTextResponse("no such file\n", 404)


def _filled(template: bytes, title: str, links: str) -> bytes:
    text = template.decode().replace("{{title}}", html.escape(title))
    return text.replace("{{links}}", links).encode()


def _answer(request: Request, found: _File) -> Response:
    headers = {"etag": found.etag, "cache-control": "no-cache"}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers | {"content-type": found.kind})
