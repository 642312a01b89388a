"""The state folder: where everything of one building and its cloud lies on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_STATE = ".plantroom"
STATE_VARIABLE = "PLANTROOM_STATE"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files that a tool needs to talk to a broker.

    `ca` pools the roots, as other people's tools want them; `bundles` keeps them apart by trust
    domain, as ours do.
    """

    cert: Path
    key: Path
    ca: Path
    bundles: Path

    @classmethod
    def under(cls, folder: Path) -> "Credentials":
        """Name the files of one person's folder."""
        return cls(
            folder / "cert.pem", folder / "key.pem", folder / "ca.pem", folder / "bundles.json"
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Every path below one state folder; no other module spells one."""

    state: Path

    @classmethod
    def find(cls, flag: str | None, environ: Mapping[str, str]) -> "Layout":
        """Choose the folder: `--state`, else `PLANTROOM_STATE`, else `.plantroom` here."""
        return cls(Path(flag or environ.get(STATE_VARIABLE) or DEFAULT_STATE).absolute())

    @property
    def running(self) -> Path:
        """What runs here now: process ids, ports; written by `up`."""
        return self.state / "up.json"

    @property
    def lock(self) -> Path:
        """Held by `up` as long as it runs."""
        return self.state / "up.lock"

    @property
    def building(self) -> Path:
        """The flags that this building was set up with."""
        return self.state / "building.json"

    @property
    def gateway(self) -> Path:
        """The gateway's own state."""
        return self.state / "gateway"

    @property
    def cloud(self) -> Path:
        """The cloud's own state."""
        return self.state / "cloud"

    @property
    def queue(self) -> Path:
        """The gateway's segments, queue and books."""
        return self.gateway / "queue.db"

    @property
    def front(self) -> Path:
        """The cloud's broker: sessions, retained messages, queues."""
        return self.cloud / "front.db"

    @property
    def store(self) -> Path:
        """The cloud's readings and books."""
        return self.cloud / "store.db"

    @property
    def inspector(self) -> Credentials:
        """Who may read everything and change nothing."""
        return Credentials.under(self.state / "inspector")

    @property
    def operator(self) -> Credentials:
        """Who may publish and call."""
        return Credentials.under(self.state / "operator")

    def workload_socket(self, kind: str) -> Path:
        """Return where the gateway's or the cloud's own issuer serves the SPIFFE Workload API."""
        return self.state / kind / "workload" / "api.sock"

    @property
    def ota(self) -> Path:
        """Keys and documents of firmware updates; the author's side, for development."""
        return self.state / "ota"

    def config(self, kind: str) -> Path:
        """Return the configuration of the gateway or the cloud."""
        return self.state / kind / f"{kind}.toml"

    def device_config(self, name: str) -> Path:
        """Return a device's configuration."""
        return self.device(name) / "device.toml"

    def device_identity(self, name: str) -> Path:
        """Return where a device keeps its SVID."""
        return self.device(name) / "identity"

    @property
    def uplink_identity(self) -> Path:
        """Where the gateway keeps the SVID that the cloud gave it."""
        return self.gateway / "uplink"

    def device(self, name: str) -> Path:
        """Return a device's own state."""
        return self.state / "devices" / name

    def log(self, process: str) -> Path:
        """Return the file that holds what a process wrote."""
        return self.state / "logs" / f"{process}.log"
