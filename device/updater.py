"""The updater: documents in, requests and reports out, a restart at the end. One thread calls it.

Only a head makes it act; what has begun finishes, also offline. Reports follow what happens and
never decide it.
"""

from collections.abc import Callable
from typing import Final

from plantroom.device.journal import Journal
from plantroom.device.updater_background import Background
from plantroom.device.updater_download import Nature
from plantroom.device.updater_install import Booted, Installer
from plantroom.device.updater_reports import About, Reports, about_image, about_release
from plantroom.device.updater_storage import Storage
from plantroom.device.updater_trial import Trial
from plantroom.device.updater_trusted import Trusted
from plantroom.device.updater_work import Start, Work
from plantroom.wire import ota_messages, ota_rules, topics
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import CONTENT_TYPE
from plantroom.wire.errors import (
    EnvelopeError,
    PlantroomError,
    RejectedError,
    StorageError,
    StorageFullError,
    TopicError,
)
from plantroom.wire.firmware import Release
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Assign
from plantroom.wire.ota_rules import Decision, Running
from plantroom.wire.ota_states import State

CHUNK: Final = "ota/{device}/chunk/{n}"
BROADCAST: Final = "fw/{digest}/{n}"
LOOK_S = 1.0
LEAVE_S = 1.0  # for the last reports to get away


class Updater:
    """Everything about updates of one device, between its link and its storage."""

    def __init__(  # noqa: PLR0913 -- the parts that it joins, by keyword
        self,
        nature: Nature,
        *,
        trusted: Trusted,
        installer: Installer,
        booted: Booted,
        trial: Trial | None,
        storage: Storage,
        clock: Clock,
        journal: Journal,
        restart: Callable[[str], None],
        start: Start = Background,
    ) -> None:
        self._nature = nature
        self._trusted = trusted
        self._installer = installer
        self._trial = trial
        self._storage = storage
        self._clock = clock
        self._journal = journal
        self._restart = restart
        self._start = start
        self.running = booted.image
        topic = topics.build("ota/{device}/state", nature.site, nature.device)
        boots = installer.record.boots
        self._reports = Reports(topic, clock=clock, boots=boots, running=booted.image)
        self._assign: Assign | None = None
        self._work: Work | None = None
        self._decided: tuple[str, str, bytes] | None = None
        self._refused = ""  # the kind of document that was refused last
        self._look_at_s = 0.0
        self._leave_at_s: float | None = None
        self._failed: tuple[bytes, int, int] = b"", 0, 0
        self._retry_at_s = 0.0
        self._last_outcome()

    # --- what the link asks and tells ------------------------------------------------------------

    @property
    def filters(self) -> tuple[str, ...]:
        """What is listened to all the time."""
        site, device = self._nature.site, self._nature.device
        return (
            topics.subscription("ota/trust/{n}", site),
            topics.build("ota/{class}/manifest", site, self._nature.class_name),
            topics.build("ota/{device}/assign", site, device),
            topics.build("ota/head", site),
            topics.subscription(CHUNK, site, device),
        )

    @property
    def broadcast(self) -> str | None:
        """What is listened to while an image is on its way."""
        if self._work is None or not self._work.may_be_stopped:
            return None
        return topics.subscription(BROADCAST, self._nature.site, self._work.release.image)

    @property
    def busy(self) -> bool:
        """Whether `work` should be called again at once."""
        return self._work is not None and self._work.busy

    def receive(self, topic: str, payload: bytes, now_s: float) -> bool:
        """Take a message in; False when it is not about updates."""
        try:
            parsed = topics.parse(topic)
        except TopicError:
            return False
        if parsed.pattern in {CHUNK, BROADCAST}:
            self._chunk(parsed, payload, now_s)
        elif not parsed.pattern.startswith("ota/"):
            return False
        elif payload:  # what is retained is withdrawn by a higher version, never by nothing
            self._document(parsed.pattern, payload, now_s)
        return True

    def contact(self) -> None:
        """Note that the gateway has answered: that is half of a new image's health."""
        if self._trial is not None:
            self._trial.contact = True

    def connected(self) -> None:
        """Say again where things stand, to a broker that may know nothing."""
        self._reports.again()

    def lost(self) -> None:
        """Forget what was asked for on a connection that has gone."""
        if self._work is not None:
            self._work.lost()

    @property
    def active(self) -> bool:
        """Whether something is under way that wants a connection."""
        trial = self._trial is not None and not self._trial.ended
        return trial or self._work is not None or self._leave_at_s is not None

    def messages(self, now_s: float) -> list[Message]:
        """Return what is to be published, on a connection that is there."""
        return [*self._requests(now_s), *self._reports.messages()]

    def work(self, now_s: float) -> None:
        """Do the next bit, connected or not."""
        try:
            self._step(now_s)
        except StorageError as error:  # a disk that fails stops updates, never the readings
            self._journal.error(f"update: {error}")
            self._drop(keep=True)
            self._look_at_s = now_s + self._nature.retry_s

    def stop(self) -> None:
        """Keep what is there of an image, and end what runs beside."""
        if self._work is not None and self._work.may_be_stopped:
            self._drop(keep=True)
        if self._trial is not None:
            self._trial.stop()

    # --- documents -------------------------------------------------------------------------------

    def _document(self, pattern: str, payload: bytes, now_s: float) -> None:
        try:
            if pattern == "ota/trust/{n}":
                news = self._trusted.feed_trust(payload)
            elif pattern == "ota/head":
                news = self._trusted.feed_head(payload)
            elif pattern == "ota/{class}/manifest":
                news = self._trusted.feed_manifest(payload)
            else:
                news = self._take_assign(payload)
        except RejectedError as error:
            self._journal.warning(f"update refused, {error.code}: {error}")
            if self._work is None:
                self._reports.say("REJECTED", About(), code=error.code, text=str(error))
                self._refused = pattern
        except (EnvelopeError, StorageError) as error:
            self._journal.warning(f"update: {error}")
        else:
            if pattern == self._refused:  # a good one of its kind has come
                self._refused = ""
            if news:
                self._look_at_s = now_s

    def _take_assign(self, payload: bytes) -> bool:
        assign = ota_messages.decode(payload, Assign)
        if self._assign is not None and assign.version <= self._assign.version:
            return False
        self._assign = assign
        return True

    def _decide(self) -> Decision:
        record = self._installer.record
        running = Running(
            sequence=record.active.sequence,
            release=record.active.release,
            known_bad=record.known_bad,
        )
        documents = self._trusted.documents
        return ota_rules.decide(documents, self._nature.class_id, running, self._assign)

    # --- what is done ----------------------------------------------------------------------------

    def _step(self, now_s: float) -> None:
        if self._trial is not None and self._trial.work(now_s):
            self.running = self._installer.record.active
            self._reports.runs(self.running)
            self._last_outcome()
            self._journal.info(f"firmware {self.running.version} has proved itself")
        work = self._work
        if self._trial is not None and self._trial.leaving:
            return  # how it ended is said by what runs next
        if self._leave_at_s is not None:
            self._leave(now_s)
        elif work is None:
            self._idle(now_s)
        elif not (work.may_be_stopped and self._is_superseded(work.release, now_s)):
            work.step(now_s)
            if work.ended:
                self._end(work, now_s)

    def _idle(self, now_s: float) -> None:
        """Look what the documents mean, when there is news and now and then for the clock."""
        if now_s < self._look_at_s or self._installer.record.trial is not None:
            return
        self._look_at_s = now_s + LOOK_S
        decision = self._decide()
        release = decision.release
        if decision.verdict == "QUEUED" and release is not None:
            if self._failed == self._attempt(release) and now_s < self._retry_at_s:
                return  # it was said why, and it is not time yet
            if not self._trusted.has_begun(release):
                decision = self._may_begin(decision)
        if decision.verdict == "QUEUED" and release is not None:
            self._begin(release, now_s)
        elif not self._is_old_news(decision) and not self._is_last_outcome(decision):
            about = self._about(decision)
            self._reports.say(decision.verdict, about, code=decision.code, text=decision.text)

    def _is_old_news(self, decision: Decision) -> bool:
        """Say whether a refusal was said since, and nothing else has changed: it stays in sight."""
        pin = decision.pin
        said = decision.verdict, decision.code, pin.digest if pin is not None else b""
        same = self._decided in {None, said}
        self._decided = said
        return bool(self._refused) and same

    def _may_begin(self, decision: Decision) -> Decision:
        return ota_rules.may_begin(
            self._trusted.documents,
            decision,
            wall_us=self._clock.wall_us(),
            device=self._nature.device,
            assign=self._assign,
        )

    def _attempt(self, release: Release) -> tuple[bytes, int, int]:
        """Name an attempt: a new head or assignment is a new one."""
        head = self._trusted.documents.head
        assign = self._assign
        return release.digest, head.version if head else 0, assign.version if assign else 0

    def _begin(self, release: Release, now_s: float) -> None:
        about = about_release(release, self._campaign)

        def tell(state: State, code: str, text: str) -> None:
            self._reports.say(state, about, code=code, text=text)

        tell("QUEUED", "", "")
        try:
            self._work = work = Work(
                release,
                storage=self._storage,
                installer=self._installer,
                patience=self._nature.patience,
                campaign=self._campaign,
                tell=tell,
                start=self._start,
                now_s=now_s,
            )
            self._trusted.begun(release)
        except StorageFullError as error:
            tell("FAILED", "disk-full", str(error))
            self._retry_later(release, now_s)
            self._drop(keep=False)
            return
        there = f"{work.part.done} of {release.chunks.count} chunks are there"
        tell("INITIATED", "", there if work.part.done else "")
        tell("DOWNLOADING", "", "")
        self._journal.info(f"update to {release.version} begins: {there}")

    def _is_superseded(self, release: Release, now_s: float) -> bool:
        """Stop what is no longer wanted: a newer release, a cancel, a revocation, a lost key."""
        if now_s < self._look_at_s:
            return False
        self._look_at_s = now_s + LOOK_S
        decision = self._decide()
        named = decision.release.digest if decision.release is not None else b""
        if decision.verdict == "QUEUED" and named == release.digest:
            return False
        self._journal.info(f"update to {release.version} stops: {decision.verdict.lower()}")
        self._drop(keep=decision.verdict == "WAITING")
        self._look_at_s = now_s
        return True

    def _end(self, work: Work, now_s: float) -> None:
        if work.installed:
            self._drop(keep=False)
            self._leave_at_s = now_s + LEAVE_S
            return
        last = self._reports.last
        code = last.code if last is not None else ""
        self._journal.warning(f"update to {work.release.version} failed: {code}")
        self._retry_later(work.release, now_s)
        self._drop(keep=code == "download")

    def _retry_later(self, release: Release, now_s: float) -> None:
        """Try a release that has failed again much later, or when it is named anew."""
        self._failed, self._retry_at_s = self._attempt(release), now_s + self._nature.retry_s

    def _leave(self, now_s: float) -> None:
        if self._leave_at_s is not None and now_s >= self._leave_at_s:
            self._leave_at_s = now_s + 60 * LEAVE_S  # once; the process ends
            self._restart("firmware was installed")

    def _drop(self, *, keep: bool) -> None:
        """Leave a release; `keep`: what is there of it may serve a later attempt."""
        work, self._work = self._work, None
        try:
            if work is not None and keep:
                work.part.save()
            elif work is not None:
                work.part.drop()
            if not keep:
                self._trusted.ended()
        except PlantroomError as error:
            self._journal.warning(f"update: {error}")

    def _chunk(self, parsed: topics.Topic, payload: bytes, now_s: float) -> None:
        work, (name, number) = self._work, parsed.names
        broadcast = parsed.pattern == BROADCAST
        if work is None or (broadcast and name != work.release.image):
            return
        try:
            work.receive(number, payload, now_s, broadcast=broadcast)
        except EnvelopeError as error:
            self._journal.warning(f"update: {error}")

    # --- what is said ----------------------------------------------------------------------------

    def _requests(self, now_s: float) -> list[Message]:
        work = self._work
        request = work.request(now_s) if work is not None else None
        if work is None or request is None:
            return []
        self._reports.progress(work.part.done, work.release.chunks.count, now_s)
        topic = topics.build("ota/{device}/get", self._nature.site, self._nature.device)
        payload = ota_messages.encode(request)
        return [Message(topic=topic, payload=payload, content_type=CONTENT_TYPE)]

    @property
    def _campaign(self) -> str:
        return self._assign.campaign if self._assign is not None else ""

    def _about(self, decision: Decision) -> About:
        if decision.release is not None:
            return about_release(decision.release, self._campaign)
        pin = decision.pin
        if pin is None:
            return About()
        return About(release=pin.digest, sequence=pin.sequence, campaign=self._campaign)

    def _last_outcome(self) -> None:
        """Report how the last trial ended, or that one is under way: said by what runs now."""
        record = self._installer.record
        if record.trial is not None:
            self._reports.say("UPDATING", about_image(record.trial), text="on trial")
        elif record.last is not None:
            last = record.last
            self._reports.say(last.state, about_image(last.image), text=last.text)

    def _is_last_outcome(self, decision: Decision) -> bool:
        """Say whether a decision only repeats what the record's outcome says better."""
        last, pin = self._installer.record.last, decision.pin
        if last is None or pin is None or pin.digest != last.image.release:
            return False
        current = decision.verdict == "ALREADY_CURRENT" and last.state == "UPDATED"
        known = decision.code == "known-bad" and last.state == "ROLLED_BACK"
        if current or known:
            self._reports.say(last.state, about_image(last.image), text=last.text)
        return current or known
