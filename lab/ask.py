"""Ask a running gateway or cloud over HTTP, with a deadline and a limit."""

import http.client
import json
from typing import Any

from plantroom.lab.ports import HOST
from plantroom.wire.errors import UnreachableError

ANSWER_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 5.0


def get(port: int, path: str, *, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """Return status and body.

    Raises:
        UnreachableError: when nothing answers there in time.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(
            f"no answer: {error}",
            where=f"http://{HOST}:{port}{path}",
            remedy="see `plantroom status` and the logs in the state folder",
        ) from error
    finally:
        connection.close()


def get_json(port: int, path: str, *, timeout_s: float = TIMEOUT_S) -> Any:
    """Return the document at `path`.

    Raises:
        UnreachableError: when there is none.
    """
    status, body = get(port, path, timeout_s=timeout_s)
    where = f"http://{HOST}:{port}{path}"
    if status != http.client.OK:
        raise UnreachableError(f"answer {status}", where=where, remedy="see the process's log")
    try:
        return json.loads(body)
    except ValueError as error:
        raise UnreachableError("answer is not JSON", where=where, remedy="see its log") from error


def is_healthy(port: int) -> bool:
    """Say whether `/healthz` answers 200."""
    try:
        return get(port, "/healthz", timeout_s=2.0)[0] == http.client.OK
    except UnreachableError:
        return False
