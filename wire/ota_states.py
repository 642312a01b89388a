"""The words of an update: its states, and why a device refuses one."""

from typing import Final, Literal, get_args

State = Literal[
    "IDLE",  # nothing is named for this device
    "QUEUED",  # named and verified; not begun
    "INITIATED",  # begun: place was made
    "WAITING",  # for a document, a clock, an assignment, or for whoever serves the image
    "DOWNLOADING",
    "DOWNLOADED",  # every chunk is there
    "VERIFIED",  # and the whole image is the signed one
    "UPDATING",  # the next boot tries it
    "UPDATED",  # said by the new image alone, once it has proved itself
    "ALREADY_CURRENT",
    "FAILED",
    "ROLLED_BACK",  # said by the old image: the new one did not prove itself
    "REJECTED",  # with a code
    "CANCELED",
    "TIMED_OUT",
]
STATES: Final = get_args(State)
FINAL_STATES: Final = frozenset(
    {
        "UPDATED",
        "ALREADY_CURRENT",
        "FAILED",
        "ROLLED_BACK",
        "REJECTED",
        "CANCELED",
        "TIMED_OUT",
    }
)

# What a device, a gateway or the cloud says of a document, release or request that it refuses.
CODES: Final = {
    "aborted": "the manifest's own commands say abort",
    "bad-key": "a key is not of a kind that is known",
    "bad-signature": "too few valid signatures of author keys",
    "bad-threshold": "a threshold that no set of keys can meet, or any can",
    "digest-mismatch": "a part is not the one that was signed",
    "equivocation": "the same sequence number for another release: raise an alarm",
    "head-equivocation": "the same head version for other content: raise an alarm",
    "head-expired": "the head's time has passed: somebody may be holding back a newer one",
    "head-rollback": "a head older than the one that is known",
    "head-signature": "not signed by a head key",
    "known-bad": "this release has failed here before",
    "malformed": "not of its form, not deterministic, or too large",
    "not-in-head": "a genuine release that the head does not name",
    "release-revoked": "the head revokes it",
    "rollback": "older than what runs",
    "trust-expired": "the trust document's time has passed",
    "trust-threshold": "too few valid signatures of root keys, old or new",
    "trust-version": "not the next trust document",
    "unknown-envelope-key": "the envelope carries something that nobody asked for",
    "unknown-manifest-key": "the manifest says something that is not understood",
    "unsupported-command": "a command that is not understood",
    "unsupported-component": "components other than firmware and chunks",
    "unsupported-parameter": "a parameter that is not understood",
    "unsupported-uri": "an image from elsewhere than the building",
    "wrong-class": "for another class of devices",
    "wrong-device": "for another device",
    "wrong-image": "the component is not that image",
    "wrong-slot": "for another slot",
    "wrong-vendor": "for another vendor's devices",
}
# Of a state FAILED: nobody's attack, and its own word.
FAILURES: Final = {
    "disk-full": "no room for the image",
    "download": "chunks did not come in time, however often they were asked for",
    "gone": "whoever serves images does not have it and never will",
    "image-digest": "every chunk was right and the whole is not",
    "install": "the installer could not take it",
}
# Of a state WAITING.
WAITS: Final = {
    "assignment": "it is rolled out by campaign, and this device was not chosen yet",
    "clock": "the clock is not set, so no expiry can be judged",
    "head": "no head yet",
    "manifest": "the head names a manifest that has not come yet",
    "schedule": "its time has not come",
    "server": "whoever serves images does not have it yet",
}
