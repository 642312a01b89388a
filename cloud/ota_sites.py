"""What each site's devices are told about updates: its signed documents, and the next head.

Pure: fed with what was published, it gives back what is to be published. Each site has a line of
heads of its own, so that a manifest published for one building concerns no other.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from plantroom.wire import firmware, head, topics
from plantroom.wire.cose import Signer, Verify
from plantroom.wire.errors import RefusedError, RejectedError, UsageError
from plantroom.wire.firmware import Release
from plantroom.wire.head import Head, Pin, Rollout
from plantroom.wire.link import Message
from plantroom.wire.ota_documents import Documents

HEAD_PATTERN = "ota/head"
MANIFEST_PATTERN = "ota/{class}/manifest"
TRUST_PATTERN = "ota/trust/{n}"
SITES_MAX = 10_000
_RENEW_SHARE = 2  # a head is signed anew at half its life


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What of a site has to survive a restart; empty is none yet.

    `anchor` says which first trust document it goes back to: another one begins anew.
    """

    anchor: bytes = b""
    trust: bytes = b""
    head: bytes = b""
    manifests: Mapping[bytes, tuple[str, bytes]] = field(default_factory=dict)  # class, envelope


class Sites:
    """The documents of every site, verified as a device would; heads are signed here.

    Without a `signer` nothing is signed: heads then come from an operator who signs offline.

    Raises:
        RejectedError: when the anchor does not sign itself.
    """

    def __init__(
        self,
        anchor: bytes,
        *,
        verify: Verify,
        signer: Signer | None,
        issuer: str,
        expires_s: int = head.EXPIRES_S,
    ) -> None:
        Documents(anchor, verify=verify)  # it has to vouch for itself
        self._anchor = anchor
        self._anchor_digest = hashlib.sha256(anchor).digest()
        self._verify = verify
        self._signer = signer
        self._issuer = issuer
        self._expires_s = expires_s
        self._documents: dict[str, Documents] = {}
        self._classes: dict[str, dict[bytes, str]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def documents(self, site: str) -> Documents:
        """Return a site's documents.

        Raises:
            RefusedError: when there are too many sites.
        """
        if site not in self._documents:
            if len(self._documents) >= SITES_MAX:
                raise RefusedError(f"more than {SITES_MAX} sites", reason="sites", where=site)
            self._documents[site] = Documents(self._anchor, verify=self._verify)
            self._classes[site] = {}
        return self._documents[site]

    def restore(self, site: str, kept: Kept) -> None:
        """Take up what an earlier life knew, as far as its trust document vouches for it."""
        documents = self.documents(site)
        if kept.anchor == self._anchor_digest and kept.trust:
            documents = self._documents[site] = Documents(kept.trust, verify=self._verify)
        feeds: list[tuple[Callable[[bytes], object], bytes]] = [
            (documents.feed_head, kept.head),
            *((documents.feed_manifest, envelope) for _, envelope in kept.manifests.values()),
        ]
        for feed, data in feeds:
            if data:
                try:
                    feed(data)
                except RejectedError:
                    continue
        self._classes[site] = {
            digest: name
            for digest, (name, _) in kept.manifests.items()
            if digest in documents.releases
        }

    def kept(self, site: str) -> Kept:
        """Return what of a site has to survive."""
        documents = self.documents(site)
        names = self._classes[site]
        return Kept(
            anchor=self._anchor_digest,
            trust=documents.trust_bytes,
            head=documents.head_bytes,
            manifests={
                digest: (names[digest], envelope)
                for digest, envelope in documents.manifests.items()
                if digest in names
            },
        )

    def class_name(self, site: str, release: bytes) -> str:
        """Return the name of a release's class, as its topic had it."""
        return self._classes.get(site, {}).get(release, "")

    def find(self, release: bytes) -> tuple[str, Release] | None:
        """Return the first site that has a release, and the release."""
        for site, documents in self._documents.items():
            if release in documents.releases and self.class_name(site, release):
                return site, documents.releases[release]
        return None

    def of_image(self, image: str) -> Release | None:
        """Return a release with this image (hex), if any site has one."""
        for documents in self._documents.values():
            for release in documents.releases.values():
                if release.image == image:
                    return release
        return None

    def current(self, site: str, class_name: str) -> Release | None:
        """Return the release that a site's head names for a class."""
        documents = self._documents.get(site)
        if documents is None or documents.head is None:
            return None
        for pin in documents.head.classes.values():
            release = documents.releases.get(pin.digest)
            if release is not None and self.class_name(site, pin.digest) == class_name:
                return release
        return None

    def take_trust(self, site: str, data: bytes) -> bool:
        """Take a trust document; see `Documents.feed_trust`."""
        return self.documents(site).feed_trust(data)

    def take_head(self, site: str, data: bytes) -> bool:
        """Take a head: our own that comes back, or one that was signed offline."""
        return self.documents(site).feed_head(data)

    def take_manifest(
        self, site: str, class_name: str, data: bytes, rollout: Rollout, now_s: int
    ) -> tuple[Release, list[Message]]:
        """Register a manifest; give the head that names it, unless one does already.

        Raises:
            RejectedError: for what a device would reject; `wrong-class` also for a topic that
                does not belong to the manifest.
        """
        documents = self.documents(site)
        release = documents.feed_manifest(data)
        if not firmware.class_is(
            class_name, vendor_id=release.vendor_id, class_id=release.class_id
        ):
            raise RejectedError(
                f"manifest is for another class than {class_name}", code="wrong-class"
            )
        if documents.head is not None and release.digest in documents.head.revoked:
            raise RejectedError(f"release {release.sequence} is revoked", code="release-revoked")
        self._classes[site][release.digest] = class_name
        self._classes[site] = {
            digest: name
            for digest, name in self._classes[site].items()
            if digest in documents.releases
        }
        pin = documents.head.classes.get(release.class_id) if documents.head else None
        if pin is not None and pin.digest == release.digest:
            return release, []
        return release, self._name(site, release, rollout, now_s)

    def bring(self, release: bytes, site: str, now_s: int) -> list[Message]:
        """Have a site know a release for assigned devices only, from a site that has it.

        Raises:
            RejectedError: when the site's documents do not allow it.
            UsageError: when nobody has it, or nothing can be signed here.
        """
        found = self.find(release)
        if found is None:
            raise UsageError(
                "no such release is registered",
                where=release.hex(),
                remedy="publish its manifest first: plantroom ota publish",
            )
        if self._signer is None:
            raise UsageError("no head can be signed here", remedy="configure ota.head_key_file")
        source, known = found
        name, envelope = self.class_name(source, release), self._envelope(source, release)
        documents = self.documents(site)
        messages: list[Message] = []
        if release not in documents.releases:
            documents.feed_manifest(envelope)
            messages.append(_message(MANIFEST_PATTERN, site, envelope, name))
        self._classes[site][release] = name
        pin = documents.head.classes.get(known.class_id) if documents.head else None
        if pin is None or (pin.digest, pin.rollout) != (release, "assigned"):
            messages += self._name(site, known, "assigned", now_s)
        return messages

    def revoke(self, site: str, release: bytes, now_s: int) -> list[Message]:
        """Revoke a release: no device of the site begins it any more.

        Raises:
            UsageError: when the site does not know it, or nothing can be signed here.
        """
        documents = self.documents(site)
        if release not in documents.releases:
            raise UsageError("this site has no such release", where=f"{site} {release.hex()}")
        known = documents.head or self._first(now_s)
        return self._sign(site, replace(known, revoked=known.revoked | {release}), now_s)

    def due(self, now_s: int) -> dict[str, list[Message]]:
        """Give each site whose head grows old a new one that says the same."""
        renewed = {}
        for site, documents in self._documents.items():
            known = documents.head
            is_ours = known is not None and known.issuer == self._issuer
            if known is None or not is_ours or self._signer is None:
                continue
            if now_s >= known.issued_s + (known.expires_s - known.issued_s) // _RENEW_SHARE:
                renewed[site] = self._sign(site, known, now_s)
        return renewed

    def standing(self, site: str) -> list[Message]:
        """Give what the site's broker has to hold: it may have been replaced."""
        documents, messages = self.documents(site), []
        if documents.trust.version > 1:
            version = str(documents.trust.version)
            messages.append(_message(TRUST_PATTERN, site, documents.trust_bytes, version))
        if documents.head is not None:
            messages.append(_message(HEAD_PATTERN, site, documents.head_bytes))
            for pin in documents.head.classes.values():
                name = self.class_name(site, pin.digest)
                if name:
                    envelope = self._envelope(site, pin.digest)
                    messages.append(_message(MANIFEST_PATTERN, site, envelope, name))
        return messages

    def _envelope(self, site: str, release: bytes) -> bytes:
        return self._documents[site].manifests[release]

    def _first(self, now_s: int) -> Head:
        return Head(version=0, issued_s=now_s, expires_s=now_s, issuer=self._issuer)

    def _name(self, site: str, release: Release, rollout: Rollout, now_s: int) -> list[Message]:
        """Name a release in the site's next head."""
        known = self.documents(site).head or self._first(now_s)
        pin = Pin(sequence=release.sequence, digest=release.digest, rollout=rollout)
        return self._sign(
            site, replace(known, classes={**known.classes, release.class_id: pin}), now_s
        )

    def _sign(self, site: str, said: Head, now_s: int) -> list[Message]:
        if self._signer is None:
            return []
        made = replace(
            said,
            version=said.version + 1,
            issued_s=now_s,
            expires_s=now_s + self._expires_s,
            issuer=self._issuer,
        )
        data = head.build(made, self._signer)
        try:
            self.documents(site).feed_head(data)
        except RejectedError as error:
            raise RejectedError(
                f"the cloud's own head is not accepted: {error}",
                code=error.code,
                where=site,
                remedy="ota.head_key_file has to be a head key of the trust document",
            ) from error
        return [_message(HEAD_PATTERN, site, data)]


def _message(pattern: str, site: str, payload: bytes, *names: str) -> Message:
    return Message(topic=topics.build(pattern, site, *names), payload=payload, retain=True)
