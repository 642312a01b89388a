"""What is said about an update: each state once, progress at most every second, retained."""

from collections import deque
from dataclasses import dataclass, replace

from plantroom.device.updater_record import Image
from plantroom.wire import ota_messages
from plantroom.wire.clock import Clock, is_plausible
from plantroom.wire.envelope import CONTENT_TYPE
from plantroom.wire.firmware import Release
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import TEXT_CHARACTERS_MAX, Report
from plantroom.wire.ota_states import State

PROGRESS_S = 1.0
NUMBERS_A_BOOT = 1_000_000
_WAITING_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The release that a report is about."""

    release: bytes = b""
    sequence: int = 0
    version: str = ""
    campaign: str = ""


def about_release(release: Release, campaign: str) -> About:
    """Speak of a release that a manifest describes."""
    return About(
        release=release.digest,
        sequence=release.sequence,
        version=release.version,
        campaign=campaign,
    )


def about_image(image: Image) -> About:
    """Speak of an image that is in a slot."""
    return About(
        release=image.release,
        sequence=image.sequence,
        version=image.version,
        campaign=image.campaign,
    )


class Reports:
    """Reports of one device in the order in which things happen; `boots` keeps numbers rising."""

    def __init__(self, topic: str, *, clock: Clock, boots: int, running: Image) -> None:
        self._topic = topic
        self._clock = clock
        self._number = boots * NUMBERS_A_BOOT
        self._running = running
        self._waiting: deque[Report] = deque(maxlen=_WAITING_MAX)  # offline, the oldest go
        self._progress_s = 0.0
        self.last: Report | None = None

    def say(self, state: State, about: About, *, code: str = "", text: str = "") -> None:
        """Report a state, unless it was the last thing said."""
        report = Report(
            number=0,
            state=state,
            code=code,
            text=text[:TEXT_CHARACTERS_MAX],
            release=about.release,
            sequence=about.sequence,
            version=about.version,
            campaign=about.campaign,
        )
        if self.last is None or not _same(report, self.last):
            self._queue(report)

    def progress(self, done: int, of: int, now_s: float) -> None:
        """Say how far a download is, now and then."""
        if self.last is None or self.last.chunks_done == done or now_s < self._progress_s:
            return
        self._progress_s = now_s + PROGRESS_S
        self._queue(replace(self.last, chunks=of, chunks_done=done))

    def runs(self, image: Image) -> None:
        """Note what runs as of now."""
        self._running = image

    def again(self) -> None:
        """Say the last one again: a broker may have been replaced."""
        if self.last is not None and not self._waiting:
            self._queue(self.last)

    def _queue(self, report: Report) -> None:
        self._number += 1
        wall_us = self._clock.wall_us()
        self.last = replace(
            report,
            number=self._number,
            at_us=wall_us if is_plausible(wall_us) else None,
            running_sequence=self._running.sequence,
            running_version=self._running.version,
            running_digest=self._running.digest,
        )
        self._waiting.append(self.last)

    def messages(self) -> list[Message]:
        """Return what is to be published, and forget it: what gets lost is said at reconnect."""
        messages = [
            Message(
                topic=self._topic,
                payload=ota_messages.encode(report),
                retain=True,
                content_type=CONTENT_TYPE,
            )
            for report in self._waiting
        ]
        self._waiting.clear()
        return messages


def _same(one: Report, other: Report) -> bool:
    return (one.state, one.code, one.text, one.release, one.campaign) == (
        other.state,
        other.code,
        other.text,
        other.release,
        other.campaign,
    )
