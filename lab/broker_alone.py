"""`python -m plantroom.lab.broker_alone CONFIG`: one broker on its own, with a policy.

A broker knows no policy and a policy no broker; this hands one to the other, and to the broker what
SPIFFE asks of a certificate. What a gateway or a cloud takes from its registry, a broker on its own
takes from a JSON file that is watched.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from plantroom.broker.__main__ import start
from plantroom.broker.settings import BrokerSettings
from plantroom.certs import svid
from plantroom.certs.files import FileSource
from plantroom.policies import desk
from plantroom.policies.desk import PolicyDesk, World
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, SpiffeIdError
from plantroom.wire.policy import DecisionPoint
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.tls import verified_chain_der

LOG = logging.getLogger("plantroom.lab.broker_alone")
BYTES_MAX = 64 * 1024 * 1024


class DataFile:
    """Registry and revocations in a file; what is broken leaves policy as it was."""

    def __init__(self, path: Path, office: PolicyDesk, *, poll_s: float) -> None:
        self._path, self._desk, self._poll_s = path, office, poll_s
        self._stamp: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Tell policy what is in the file.

        Raises:
            ConfigError: when it cannot be read, or is not of its form.
        """
        remedy = 'write {"registry": {"devices": …}, "revocation": {…}}'
        try:
            status = self._path.stat()
            self._stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if status.st_size > BYTES_MAX:
                raise ConfigError(f"larger than {BYTES_MAX} bytes", where=str(self._path))
            data: Any = json.loads(self._path.read_text(encoding="utf-8"))
            registry, revocation = data["registry"], data["revocation"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"policy.data cannot be read ({error!r})", where=str(self._path), remedy=remedy
            ) from error
        if not isinstance(registry, dict) or not isinstance(revocation, dict):
            raise ConfigError("policy.data has no tables", where=str(self._path), remedy=remedy)
        self._desk.update(registry=registry, revocation=revocation)

    async def run(self) -> NoReturn:
        """Follow the file for ever."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                status = self._path.stat()
                if (status.st_mtime_ns, status.st_size, status.st_ino) != self._stamp:
                    self.load()
                    LOG.info("policy data have changed")
            except (OSError, ConfigError) as error:
                LOG.error(  # noqa: TRY400 -- one line
                    "policy data cannot be read, policy stays as it was: %s", error
                )


def check(connection: Any) -> None:
    """Refuse a client that has an authority's certificate; whose it is, the broker checks.

    Raises:
        IdentityError: with the rule that is broken as `reason`.
    """
    svid.check_no_authority(svid.load(verified_chain_der(connection)[0]))


@asynccontextmanager
async def policy(settings: BrokerSettings) -> AsyncIterator[DecisionPoint]:
    """Open the policy of a broker on its own.

    Raises:
        ConfigError: when there is no bundle, server, identity or data that can be used.
    """
    section = settings.policy
    source = _source(settings) if section.endpoint.startswith("https") else None
    world = World(
        clock=SystemClock(),
        label=f"broker {settings.listen.host}:{settings.listen.port}",
        cloud_trust_domain=section.cloud_trust_domain,
        state=Path(section.state) if section.state else None,
        identity=source,
    )
    async with desk.opened(section, world) as office, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(office.run(), name="lab.policy")]
        try:
            if section.data:
                data = DataFile(Path(section.data), office, poll_s=section.poll_s)
                data.load()
                running.append(tasks.create_task(data.run(), name="lab.policy-data"))
            if source is not None:
                running.append(tasks.create_task(source.run(), name="lab.policy-identity"))
            yield office.decisions
        finally:
            for task in running:
                task.cancel()


def _source(settings: BrokerSettings) -> FileSource:
    """Take the broker's own certificate, which has to be an SVID, to the OPA server."""
    try:
        server = SpiffeId.parse(settings.policy.endpoint_id)
    except SpiffeIdError as error:
        raise ConfigError(
            f"policy.endpoint_id: {error.what}", remedy="name the OPA server's SPIFFE ID"
        ) from error
    files = settings.identity
    return FileSource(
        chain=Path(files.certificate),
        key=Path(files.key),
        bundles={server.trust_domain: Path(files.client_roots)},
        poll_s=files.reload_s,
    )


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:], policy, check))
