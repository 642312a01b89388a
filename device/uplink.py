"""The way to the gateway: connect, announce, send what waits, answer calls, and again.

The link is a set of modes, each a method that returns the next: away, online, asleep. One thread.
A connection counts as up once its first PUBACK has come; it counts as dead when the oldest pack
has waited too long, whatever the socket says.
"""

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plantroom.device.backoff import Backoff
from plantroom.device.capabilities import Calls
from plantroom.device.dispatch import Dispatch
from plantroom.device.identity import IdentityKeeper
from plantroom.device.journal import Journal
from plantroom.device.session import Session, Target
from plantroom.device.updater import Updater
from plantroom.device.waker import Waker
from plantroom.wire.envelope import Presence
from plantroom.wire.envelope import encode as encode_envelope
from plantroom.wire.errors import (
    PlantroomError,
    RefusedError,
    StorageCorruptError,
    UnreachableError,
)
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.topics import build, subscription

BUNDLE = "bundle/{trust-domain}"
STEP_S = 0.5
DRAIN_S = 5.0
GOODBYE_S = 3.0
PAUSE_S_MAX = 60.0
RENEW_RETRY_S = 10.0

Mode = Callable[[], Any]  # a mode: does its work and returns the next one, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How this link behaves: names on topics, patience, and whether it stays connected."""

    site: str
    device: str
    puback_timeout_s: float
    reconnect_s_max: float
    presence_s: float
    reuse: bool = True


class Uplink:
    """One device's link; `presence` makes the message that announces it, online or not."""

    def __init__(  # noqa: PLR0913 -- the stages and seams that it joins
        self,
        target: Target,
        manners: Manners,
        *,
        identity: IdentityKeeper,
        context: Callable[[Identity], ssl.SSLContext],
        dispatch: Dispatch,
        calls: Calls,
        presence: Callable[[bool], Presence],
        uniform: Callable[[float, float], float],
        journal: Journal,
        updates: Updater | None = None,
    ) -> None:
        self._target = target
        self._manners = manners
        self._identity = identity
        self._context = context
        self._dispatch = dispatch
        self._calls = calls
        self._presence = presence
        self._journal = journal
        self._updates = updates
        self._listens_to: str | None = None
        self._backoff = Backoff(first_s=1.0, max_s=manners.reconnect_s_max, uniform=uniform)
        self._telemetry_topic = build("telemetry/{device}", manners.site, manners.device)
        self._presence_topic = build("presence/{device}", manners.site, manners.device)
        self._bundle_topics = subscription(BUNDLE, manners.site).removesuffix("+")
        self._waker = Waker()
        self._stopped = False
        self._session: Session | None = None
        self._revision = 0
        self._announced: Presence | None = None
        self._announce_at_s = self._renew_at_s = 0.0
        self._trouble = ""
        self._catches_up = False
        self._sent_before = 0
        self.connected = False
        self.connects_total = 0

    def wake(self) -> None:
        """Look again what there is to do; from any thread, also from a signal handler."""
        self._waker.wake()

    def stop(self) -> None:
        """Make `run` say goodbye and return; from any thread."""
        self._stopped = True
        self.wake()

    def run(self) -> None:
        """Keep the link until `stop`."""
        try:
            mode: Mode | None = self._away
            while mode is not None:
                mode = mode()
        finally:
            self._drop()
            self._waker.close()

    def _away(self) -> Mode | None:
        """Try to connect; while that fails, wait longer and longer."""
        if self._stopped:
            return None
        self._update()
        identity = self._identity.current
        if identity is None:
            self._pause(PAUSE_S_MAX, self._has_new_identity(None))
            return self._away
        try:
            self._session = self._connect(identity)
            self._greet(self._session)
        except (PlantroomError, ssl.SSLError, OSError) as error:
            return self._lost(error)
        return self._online

    def _online(self) -> Mode | None:
        """Send, receive, answer, until the connection is lost or no longer wanted."""
        try:
            while not self._stopped:
                session = self._follow_identity()
                self._send(session)
                session.step(self._step_s, self._waker)
                self._receive(session)
                self._exchange_updates(session)
                self._announce(session, online=True)
                if not self._manners.reuse and self._dispatch.idle and not self._is_updating:
                    self._goodbye(session)
                    return self._asleep
            self._goodbye(self._current())
        except (PlantroomError, ssl.SSLError, OSError) as error:
            return self._lost(error)
        return None

    def _asleep(self) -> Mode | None:
        """Stay unconnected until there is something to send."""
        if self._stopped:
            return None
        if self._dispatch.idle:
            self._pause(PAUSE_S_MAX, lambda: not self._dispatch.idle)
            return self._asleep
        return self._away

    def _lost(self, error: Exception) -> Mode | None:
        """Say once why, take back what was in the air, wait, and try again.

        A damaged outbox is no fault of the link: this process ends, and the next one sets it aside.
        """
        self._drop()
        if isinstance(error, StorageCorruptError):
            raise error
        text = str(error)
        if text != self._trouble and not self._stopped:
            self._journal.warning(f"uplink: {text}; readings are kept")
        self._trouble = text
        if self._stopped:
            return None
        identity = self._identity.current
        self._pause(self._backoff.next_s(), self._has_new_identity(identity))
        return self._away

    def _drop(self) -> None:
        session, self._session = self._session, None
        self.connected = False
        if session is not None:
            self._collect(session)
            session.abort()
        self._dispatch.lost()
        if self._updates is not None:
            self._updates.lost()

    def _pause(self, wait_s: float, ends: Callable[[], bool]) -> None:
        """Wait until it is time, or `ends` says so, or `stop`."""
        until_s = time.monotonic() + wait_s
        while not (self._stopped or ends()):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                break
            self._waker.wait(min(left_s, STEP_S) if self._is_updating else left_s)
            self._update()

    def _has_new_identity(self, than: Identity | None) -> Callable[[], bool]:
        return lambda: self._identity.current is not than

    def _connect(self, identity: Identity, made: Callable[[], None] = lambda: None) -> Session:
        will = self._message(self._presence(False))
        session = Session(self._target, self._context(identity), will)
        session.open(made)
        self._revision = identity.revision
        self.connects_total += 1
        return session

    def _greet(self, session: Session) -> None:
        """Announce this device, and listen to calls."""
        self._dispatch.begin(window=session.window - 2, bytes_max=session.bytes_max)
        self._announced = None
        self._announce(session, online=True)
        calls = subscription(
            "call/{target}/{capability}/{caller}", self._manners.site, self._manners.device
        )
        try:
            session.subscribe(calls)
        except RefusedError as error:
            self._journal.warning(f"uplink: no calls will come: {error}")
        session.listen([subscription(BUNDLE, self._manners.site)])
        if self._updates is not None:
            session.listen(self._updates.filters)
            self._updates.connected()
            self._listens_to = None

    # --- updates: what is about them travels here, and is decided there ---------------------------

    @property
    def _is_updating(self) -> bool:
        return self._updates is not None and self._updates.active

    @property
    def _step_s(self) -> float:
        return 0.0 if self._updates is not None and self._updates.busy else STEP_S

    def _update(self) -> None:
        if self._updates is not None:
            self._updates.work(time.monotonic())

    def _exchange_updates(self, session: Session) -> None:
        """Let updates go on, publish what they say, and listen where they want to."""
        updates = self._updates
        if updates is None:
            return
        updates.work(time.monotonic())
        if updates.broadcast != self._listens_to:
            if self._listens_to is not None:
                session.leave(self._listens_to)
            self._listens_to = updates.broadcast
            if self._listens_to is not None:
                session.listen([self._listens_to])
        for message in updates.messages(time.monotonic()):
            session.publish(message)
        refused, session.refused = session.refused, []
        for topic_filter in refused:
            self._journal.warning(f"uplink: the broker does not let us listen to {topic_filter}")

    def _send(self, session: Session) -> None:
        now_s = time.monotonic()
        while (parcel := self._dispatch.next(now_s)) is not None:
            mid = session.publish(
                Message(
                    topic=self._telemetry_topic,
                    payload=parcel.payload,
                    content_type=parcel.content_type,
                    user={"range": parcel.span},
                )
            )
            self._dispatch.aloft(mid, parcel, now_s)

    def _receive(self, session: Session) -> None:
        self._collect(session)
        now_s = time.monotonic()
        if self._dispatch.waits_s(now_s) > self._manners.puback_timeout_s:
            raise UnreachableError(
                f"no PUBACK for {self._manners.puback_timeout_s:g} s", where=str(self._target)
            )
        for topic, payload in session.messages:
            if topic.startswith(self._bundle_topics):
                self._identity.heard(topic.removeprefix(self._bundle_topics), payload)
            elif self._updates is None or not self._updates.receive(topic, payload, now_s):
                self._calls.receive(topic, payload, now_s)
        session.messages.clear()
        for answer in self._calls.answers(time.monotonic):
            session.publish(answer)

    def _collect(self, session: Session) -> None:
        """Take in the answers that have come."""
        acks, session.acks = session.acks, []
        if acks and not self.connected:  # said before what these answers change can be seen
            self.connected = True
            self._sent_before = self._dispatch.acknowledged_total
            self._catches_up = True
            if self._updates is not None:
                self._updates.contact()
            self._trouble = ""
            self._backoff.reset()
            self._journal.info(f"uplink: connected to {self._target}")
        for mid, code in acks:
            self._dispatch.answered(mid, code, time.monotonic())
        if self._catches_up and self._dispatch.idle:
            self._catches_up = False
            count = self._dispatch.acknowledged_total - self._sent_before
            self._journal.info(f"uplink: everything is sent: {count} readings since then")

    def _announce(self, session: Session, *, online: bool) -> None:
        """Publish the presence message when it says something new, and every so often."""
        now_s = time.monotonic()
        presence = self._presence(online)
        news = self._announced is None or presence.info != self._announced.info or not online
        if news or now_s >= self._announce_at_s:
            session.publish(self._message(presence))
            self._announced = presence
            self._announce_at_s = now_s + self._manners.presence_s

    def _message(self, presence: Presence) -> Message:
        return Message(topic=self._presence_topic, payload=encode_envelope(presence), retain=True)

    def _follow_identity(self) -> Session:
        """Change to a connection with the new SVID: made before the old one is given up."""
        session, identity = self._current(), self._identity.current
        now_s = time.monotonic()
        if identity is None or identity.revision == self._revision or now_s < self._renew_at_s:
            return session
        self._renew_at_s = now_s + RENEW_RETRY_S
        given_up = False

        def give_up_old() -> None:
            nonlocal given_up
            given_up = True
            self._drain(session, DRAIN_S)
            session.close()
            self._dispatch.lost()

        try:
            self._session = self._connect(identity, give_up_old)
        except (PlantroomError, ssl.SSLError, OSError) as error:
            if given_up:
                raise
            self._journal.warning(f"uplink: cannot reconnect with the new SVID yet: {error}")
            return session
        self._greet(self._session)
        self._journal.info("uplink: reconnected with the new SVID")
        return self._session

    def _drain(self, session: Session, wait_s: float) -> None:
        """Wait for the answers to what is in the air; what does not come is sent again."""
        until_s = time.monotonic() + wait_s
        with contextlib.suppress(UnreachableError):
            while self._dispatch.in_the_air and time.monotonic() < until_s:
                session.step(0.1)
                self._collect(session)

    def _goodbye(self, session: Session) -> None:
        self._drain(session, GOODBYE_S)
        self._announce(session, online=False)
        until_s = time.monotonic() + GOODBYE_S
        while not session.acks and time.monotonic() < until_s:
            session.step(0.1)
        self._session = None
        session.close()
        self.connected = False
        self._dispatch.lost()

    def _current(self) -> Session:
        if self._session is None:
            raise UnreachableError("not connected", where=str(self._target))
        return self._session
