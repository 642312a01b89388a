"""The signed documents of updates, as a pure machine: feed them in any order, trust what is left.

Nothing here reads a clock, a file or a socket. What is fed is verified at once under the trust of
that moment; a head or manifest whose key is not known yet is kept aside for the trust document
that may bring it. The style is that of python-tuf's `trusted_metadata_set`.
"""

from collections.abc import Mapping

from plantroom.wire import cose, firmware, head, suit, trust
from plantroom.wire.cose import Verify
from plantroom.wire.errors import RejectedError
from plantroom.wire.firmware import Release
from plantroom.wire.suit_commands import Target
from plantroom.wire.trust import Trust

RELEASES_MAX = 64
_ASIDE_MAX = 4
_NEW_KEY_MAY_MEND = frozenset({"head-signature", "bad-signature"})


class Documents:
    """What is trusted: one trust document, one head, the manifests by their digest.

    `anchor` is the trust document that this device was set up with, or the last that it adopted.
    With a `target`, only releases for it are taken, and one at a time; without, `releases_max`.

    Raises:
        RejectedError: when the anchor does not sign itself.
    """

    def __init__(
        self,
        anchor: bytes,
        *,
        verify: Verify,
        target: Target | None = None,
        releases_max: int = RELEASES_MAX,
    ) -> None:
        self._verify = verify
        self._target = target
        self._releases_max = releases_max
        self.trust: Trust = trust.first(anchor, verify)
        self.trust_bytes = anchor
        self.head: head.Head | None = None
        self.head_bytes = b""
        self.releases: dict[bytes, Release] = {}
        self._manifests: dict[bytes, bytes] = {}
        self._later: dict[int, bytes] = {}  # trust documents that came before their predecessor
        self._aside: dict[bytes, None] = {}

    @property
    def manifests(self) -> Mapping[bytes, bytes]:
        """The verified envelopes, by their manifest's digest."""
        return self._manifests

    def feed_trust(self, data: bytes) -> bool:
        """Take a trust document; say whether it, or one that waited for it, was adopted.

        Raises:
            RejectedError: `malformed`, `bad-threshold`, `trust-threshold`; `trust-version` for
                another document under a number that is known.
        """
        version = trust.read(data)[0].version
        if version <= self.trust.version:
            if version == self.trust.version and data != self.trust_bytes:
                self._check_same(data)
            return False
        if version > self.trust.version + 1:
            self._remember_later(version, data)
            return False
        self._adopt(data)
        return True

    def _check_same(self, data: bytes) -> None:
        """Let another set of signatures over the same content pass."""
        if trust.read(data)[1].payload != trust.read(self.trust_bytes)[1].payload:
            raise RejectedError(
                f"another trust document has the number {self.trust.version}", code="trust-version"
            )

    def _remember_later(self, version: int, data: bytes) -> None:
        self._later[version] = data
        if len(self._later) > _ASIDE_MAX:
            del self._later[max(self._later)]

    def _adopt(self, data: bytes) -> None:
        previous, self.trust = self.trust, trust.following(self.trust, data, self._verify)
        self.trust_bytes = data
        self._judge_again(previous)
        waiting = self._later.pop(self.trust.version + 1, None)
        if waiting is not None:
            try:
                self._adopt(waiting)
            except RejectedError:  # what came out of turn is anybody's: the true one comes again
                return

    def _judge_again(self, previous: Trust) -> None:
        """Keep what the new trust document still vouches for, and look again at what was aside."""
        known = [*self._manifests.values()]
        current = self.head_bytes
        self.releases.clear()
        self._manifests.clear()
        # TUF 5.3.11: whoever stole a head key could have named a version that nobody reaches.
        keys_changed = previous.head != self.trust.head
        if keys_changed:
            self.head, self.head_bytes = None, b""
        aside, self._aside = [*self._aside], {}
        for data in (*([current] if keys_changed and current else ()), *known, *aside):
            feed = self.feed_head if is_head(data) else self.feed_manifest
            try:
                feed(data)
            except RejectedError:
                continue  # it was said when it came, or its key was withdrawn just now

    def feed_head(self, data: bytes) -> bool:
        """Take a head; say whether it was adopted.

        Raises:
            RejectedError: `malformed`, `head-signature`, `head-rollback`, `head-equivocation`.
        """
        if self.head is not None and data == self.head_bytes:
            return False
        read, signed = head.read(data)
        try:
            cose.check_threshold(
                signed,
                keys=self.trust.head.keys,
                threshold=1,
                verify=self._verify,
                what="head",
                code="head-signature",
            )
        except RejectedError:
            self._put_aside(data)
            raise
        known = self.head
        if known is not None and read.version < known.version:
            raise RejectedError(
                f"head {read.version} is older than {known.version}", code="head-rollback"
            )
        if known is not None and read.version == known.version and read != known:
            raise RejectedError(
                f"two heads have the version {known.version}", code="head-equivocation"
            )
        self.head, self.head_bytes = read, data
        return True

    def feed_manifest(self, data: bytes) -> Release:
        """Take an envelope; return its release, which the head may name now or later.

        Raises:
            RejectedError: with any code of a manifest; `not-in-head` for one that the head has
                left behind, `equivocation` for a second one of the same number.
        """
        envelope = suit.read(data)
        author = self.trust.author
        try:
            cose.check_threshold(
                envelope.signed,
                keys=author.keys,
                threshold=author.threshold,
                verify=self._verify,
                what="manifest",
                code="bad-signature",
            )
        except RejectedError:
            self._put_aside(data)
            raise
        release = firmware.read(envelope, self._target)
        pin = self.head.classes.get(release.class_id) if self.head else None
        if pin is not None and release.sequence <= pin.sequence and release.digest != pin.digest:
            twice = release.sequence == pin.sequence
            raise RejectedError(
                f"head names another release {pin.sequence}, this is {release.sequence}",
                code="equivocation" if twice else "not-in-head",
            )
        self._keep(release, data)
        return release

    def _keep(self, release: Release, data: bytes) -> None:
        """Keep what the head names, and of the rest the newest."""
        self.releases.pop(release.digest, None)
        self.releases[release.digest] = release
        self._manifests[release.digest] = data
        named = {pin.digest for pin in self.head.classes.values()} if self.head else set()
        for digest in [*self.releases]:
            if len(self.releases) <= self._releases_max:
                break
            if digest not in named and digest != release.digest:
                del self.releases[digest], self._manifests[digest]
        if len(self.releases) > self._releases_max:
            del self.releases[release.digest], self._manifests[release.digest]

    def _put_aside(self, data: bytes) -> None:
        """Keep it for a trust document that may come: the newest few, as somebody may flood us."""
        self._aside.pop(data, None)
        self._aside[data] = None
        if len(self._aside) > _ASIDE_MAX:
            del self._aside[next(iter(self._aside))]


def is_head(data: bytes) -> bool:
    """Say whether a document begins as a COSE_Sign1: a head, as a manifest has another tag."""
    return data[:1] == bytes((0xC0 | cose.SIGN1,))
