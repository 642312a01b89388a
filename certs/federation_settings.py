"""With whom a gateway or cloud federates: the settings, and what they mean.

Source: SPIFFE Federation 5.1, 5.2.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from plantroom.wire.errors import ConfigError, SpiffeIdError
from plantroom.wire.settings import option
from plantroom.wire.spiffe import SpiffeId

REMEDY = 'write "TRUST_DOMAIN URL ENDPOINT_SPIFFE_ID", the last for https_spiffe only'


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSection:
    """Other trust domains whose bundles are fetched, beside the one at the bridge's other end."""

    bundles: tuple[str, ...] = option(
        (),
        "Each `TRUST_DOMAIN URL ENDPOINT_SPIFFE_ID` (https_spiffe), `TRUST_DOMAIN URL`"
        " (https_web: a public certificate) or `TRUST_DOMAIN file:///path` (another tool's file).",
    )
    refresh_s: int = option(
        0, "How often they are fetched. 0: as each bundle says itself.", low=0, high=86_400
    )
    timeout_s: float = option(30.0, "Longest wait for one of them.", low=1, high=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where one trust domain's bundle is; `spiffe_id` None for https_web and files."""

    trust_domain: str
    url: str
    spiffe_id: SpiffeId | None


def endpoints(section: FederationSection, *, source: str = "") -> tuple[Endpoint, ...]:
    """Read the settings.

    Raises:
        ConfigError: naming the entry.
    """
    return tuple(_endpoint(text, source) for text in section.bundles)


def _endpoint(text: str, source: str) -> Endpoint:
    words = text.split()
    if not 2 <= len(words) <= 3:
        raise _bad(text, source)
    try:
        trust_domain = SpiffeId.parse(f"spiffe://{words[0]}/x").trust_domain
        spiffe_id = SpiffeId.parse(words[2]) if len(words) == 3 else None
        url = urlsplit(words[1])
        url.port  # noqa: B018 -- raises where it is not a number
    except (SpiffeIdError, ValueError) as error:
        raise _bad(text, source) from error
    served = url.scheme == "https" and bool(url.hostname) and "@" not in url.netloc
    filed = url.scheme == "file" and not url.netloc and bool(url.path) and spiffe_id is None
    if not (served or filed):  # SPIFFE Federation 5.2.1.1, 5.2.2.1
        raise _bad(text, source)
    return Endpoint(trust_domain=trust_domain, url=words[1], spiffe_id=spiffe_id)


def _bad(text: str, source: str) -> ConfigError:
    return ConfigError(f"federation.bundles has {text[:120]!r}", where=source, remedy=REMEDY)
