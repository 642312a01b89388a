"""Whether a building serves images, and with what: its trust document says so."""

from collections.abc import Callable
from pathlib import Path

from plantroom.certs import atomic, signatures
from plantroom.gateway.images import Images, Publish
from plantroom.gateway.settings import OtaSection
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError, RejectedError
from plantroom.wire.link import Message

_TRUST_BYTES_MAX = 64 * 1024


def of(  # noqa: PLR0913 -- what the stage rests on, each named
    section: OtaSection,
    folder: Path,
    *,
    site: str,
    publish: Publish,
    connected: Callable[[], bool],
    clock: Clock,
    watch: Callable[[str, Callable[[Message, str], None]], object],
) -> Images | None:
    """Make the stage, and have it hear what it has to; None where nobody has set updates up.

    Raises:
        ConfigError: when the trust document is not what it should be.
        StorageError: when the folder cannot be used.
    """
    path = Path(section.trust_file) if section.trust_file else folder / "trust.cbor"
    anchor = atomic.read(path, bytes_max=_TRUST_BYTES_MAX)
    if anchor is None:
        if section.trust_file:
            raise ConfigError("there is no such file", where=f"ota.trust_file {path}")
        return None
    try:
        made = Images(
            anchor=anchor,
            verify=signatures.verify,
            folder=folder / "images",
            bytes_max=section.images_bytes_max,
            site=site,
            publish=publish,
            connected=connected,
            clock=clock,
            broadcast_from=section.broadcast_from,
            bytes_per_s=section.broadcast_bytes_per_s,
        )
    except RejectedError as error:
        raise ConfigError(
            f"not a trust document: {error}",
            where=f"ota.trust_file {path}",
            remedy="it is the first one that plantroom ota trust has made",
        ) from error
    for topic_filter in made.filters():
        watch(topic_filter, made.offer)
    return made
