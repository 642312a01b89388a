"""What a device does about the documents that it trusts: one pure decision, explained.

`decide` says what the documents mean for what runs; `may_begin` adds what needs a clock. What has
begun finishes, also offline. Source: the rules of docs/adr for updates; RFC 9019, RFC 9124.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from plantroom.wire.clock import is_plausible
from plantroom.wire.errors import RejectedError
from plantroom.wire.firmware import Release
from plantroom.wire.head import Pin
from plantroom.wire.ota_documents import Documents
from plantroom.wire.ota_messages import Assign

CLOCK_BEHIND_S = 24 * 3600  # a clock this far behind the head's own time is not set

Verdict = Literal["IDLE", "WAITING", "QUEUED", "ALREADY_CURRENT", "REJECTED", "CANCELED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs: its sequence number, its manifest's digest (empty: none yet), what failed."""

    sequence: int = 0
    release: bytes = b""
    known_bad: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict; `code` explains WAITING and REJECTED, `release` is what it is about."""

    verdict: Verdict
    code: str = ""
    text: str = ""
    release: Release | None = None
    pin: Pin | None = None


def decide(
    documents: Documents, class_id: bytes, running: Running, assign: Assign | None = None
) -> Decision:
    """Say what the documents mean for a device of this class."""
    if documents.head is None:
        return Decision(verdict="WAITING", code="head")
    pin = documents.head.classes.get(class_id)
    if pin is None:
        return Decision(verdict="IDLE")
    release = documents.releases.get(pin.digest)
    try:
        if pin.digest == running.release and pin.sequence == running.sequence:
            return Decision(verdict="ALREADY_CURRENT", release=release, pin=pin)
        _check(documents, pin, running, release)
    except RejectedError as error:
        return Decision(
            verdict="REJECTED", code=error.code, text=str(error), release=release, pin=pin
        )
    if release is None:
        return Decision(verdict="WAITING", code="manifest", pin=pin)
    if assign is not None and assign.order == "cancel" and assign.release == pin.digest:
        return Decision(verdict="CANCELED", release=release, pin=pin)
    if pin.rollout == "assigned" and not _is_assigned(assign, pin):
        return Decision(verdict="WAITING", code="assignment", release=release, pin=pin)
    return Decision(verdict="QUEUED", release=release, pin=pin)


def _check(documents: Documents, pin: Pin, running: Running, release: Release | None) -> None:
    if documents.head is not None and pin.digest in documents.head.revoked:
        raise RejectedError(f"release {pin.sequence} is revoked", code="release-revoked")
    if pin.sequence < running.sequence:
        raise RejectedError(
            f"release {pin.sequence} is older than {running.sequence}", code="rollback"
        )
    if pin.sequence == running.sequence and running.release:
        raise RejectedError(f"two releases have the number {pin.sequence}", code="equivocation")
    if pin.digest in running.known_bad:
        raise RejectedError(f"release {pin.sequence} has failed here before", code="known-bad")
    if release is not None and release.sequence != pin.sequence:
        raise RejectedError(
            f"head calls release {release.sequence} {pin.sequence}", code="not-in-head"
        )


def _is_assigned(assign: Assign | None, pin: Pin) -> bool:
    return assign is not None and assign.order == "install" and assign.release == pin.digest


def may_begin(
    documents: Documents, decision: Decision, *, wall_us: int, device: str, assign: Assign | None
) -> Decision:
    """Judge a QUEUED release by the clock: freshness of head and trust, and its schedule."""
    head = documents.head
    if decision.verdict != "QUEUED" or head is None:
        return decision
    now_s = wall_us // 1_000_000
    if not is_plausible(wall_us) or now_s < head.issued_s - CLOCK_BEHIND_S:
        return _but(decision, "WAITING", "clock")
    if head.expires_s <= now_s:
        return _but(decision, "REJECTED", "head-expired")
    if documents.trust.expires_s <= now_s:
        return _but(decision, "REJECTED", "trust-expired")
    if assign is not None and _is_assigned(assign, decision.pin or Pin(sequence=0, digest=b"")):
        start_s = assign.not_before_s + jitter_s(device, assign.jitter_s)
        if now_s < start_s or (assign.not_after_s and now_s >= assign.not_after_s):
            return _but(decision, "WAITING", "schedule")
    return decision


def _but(decision: Decision, verdict: Verdict, code: str) -> Decision:
    return Decision(verdict=verdict, code=code, release=decision.release, pin=decision.pin)


def jitter_s(device: str, span_s: int) -> int:
    """Return a device's place in a span of time: always the same, and spread over the fleet."""
    if span_s <= 0:
        return 0
    return int.from_bytes(hashlib.sha256(device.encode()).digest()[:8], "big") % span_s
