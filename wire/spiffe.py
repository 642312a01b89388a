"""SPIFFE IDs: parse once at the edge, trust afterwards.

Source: SPIFFE-ID specification, section 2.
"""

import re
from dataclasses import dataclass

from plantroom.wire.errors import SpiffeIdError

ID_BYTES_MAX = 2048  # SPIFFE-ID 2.3
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A workload's name: `spiffe://<trust_domain>/<path>`; `path` has no leading slash."""

    trust_domain: str
    path: str

    @classmethod
    def parse(cls, text: str) -> "SpiffeId":
        """Parse `spiffe://trust-domain/a/path`.

        Raises:
            SpiffeIdError: naming the rule that is broken.
        """
        if len(text) > ID_BYTES_MAX:  # what is not ASCII is refused below
            raise SpiffeIdError(f"SPIFFE ID is longer than {ID_BYTES_MAX} bytes")
        if not text.startswith("spiffe://"):
            raise SpiffeIdError("SPIFFE ID does not start with spiffe://", where=text[:80])
        trust_domain, _, path = text[len("spiffe://") :].partition("/")
        if not _TRUST_DOMAIN.fullmatch(trust_domain):
            raise SpiffeIdError("trust domain is not [a-z0-9._-]+", where=text[:80])
        for segment in path.split("/"):
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise SpiffeIdError("path segment is empty or has illegal characters", where=text)
        return cls(trust_domain, path)

    @classmethod
    def of_level(cls, level: str, *, trust_domain: str, cloud_trust_domain: str) -> "SpiffeId":
        """Return the ID that a level of `call` and `reply` topics stands for: undo `level`.

        Raises:
            SpiffeIdError: when it stands for none.
        """
        whose, name = trust_domain, level
        if level.startswith("cloud:"):
            whose, name = cloud_trust_domain, level.removeprefix("cloud:")
        path = name.replace(":", "/") if ":" in name else f"agent/{name}"
        return cls.parse(f"spiffe://{whose}/{path}")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.path}"

    @property
    def name(self) -> str:
        """The last element of the path: `hvac-001`, `gateway`, `ingestion`."""
        return self.path.rpartition("/")[2]

    @property
    def site(self) -> str:
        """The first label of the trust domain: a building's site on topics (`building-1`)."""
        return self.trust_domain.partition(".")[0]

    def level(self, *, cloud_trust_domain: str) -> str:
        """Return this ID as one topic level, the way `call` and `reply` topics name a caller.

        `agent/hvac-001` is `hvac-001`, other paths join with `:`; what belongs to the cloud's
        trust domain starts with `cloud:` (`cloud:operator:ann`), so that no device of a building
        can be mistaken for it.
        """
        path = self.path.removeprefix("agent/").replace("/", ":")
        return f"cloud:{path}" if self.trust_domain == cloud_trust_domain else path
