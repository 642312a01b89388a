"""Rows and cells that a replay leaves out: what its devices say of them, passed on to the operator.

A device writes each as `file:line:column: why` into its log; `up` repeats the first ones.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from plantroom.lab.building import Device
from plantroom.lab.layout import Layout

NAMED_MAX = 20
LINE_BYTES_MAX = 1024 * 1024


class LeftOut:
    """Follows the logs of the replaying devices from where they end now."""

    def __init__(
        self, layout: Layout, devices: Iterable[Device], *, tell: Callable[[str], None]
    ) -> None:
        self._tails = [
            _Tail(layout, device.name, device.replay) for device in devices if device.replay
        ]
        self._tell = tell

    def look(self) -> None:
        """Tell what has come since the last look."""
        for tail in self._tails:
            for text in tail.news():
                self._tell(text)


class _Tail:
    def __init__(self, layout: Layout, name: str, recording: str) -> None:
        self._name = name
        self._log = layout.log(name)
        self._prefix = f"{recording}:"
        self._at = self._size()
        self._named: set[str] = set()  # a device that was killed says its last ones again

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def news(self) -> Iterator[str]:
        """Give new lines about the recording; behind the last that is named, where the rest is."""
        for line in self._lines():
            if line in self._named or len(self._named) > NAMED_MAX:
                continue
            self._named.add(line)
            more = len(self._named) > NAMED_MAX
            yield (
                f"{self._name}: more of them, see {self._log}" if more else f"{self._name}: {line}"
            )

    def _lines(self) -> Iterator[str]:
        if self._size() < self._at:  # the log was begun anew
            self._at = 0
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(self._at)
            while (raw := file.readline(LINE_BYTES_MAX)).endswith(b"\n"):
                self._at += len(raw)
                line = raw.decode("utf-8", "replace").rstrip("\n")
                if line.startswith(self._prefix):
                    yield line
