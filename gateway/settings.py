"""Settings of the gateway: every limit with its default and unit, one section a part."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantroom.broker.settings import SmallMachine
from plantroom.certs import federation_settings
from plantroom.certs.federation_settings import FederationSection
from plantroom.wire.errors import ConfigError, SpiffeIdError, TopicError
from plantroom.wire.policy_settings import PolicySection
from plantroom.wire.settings import load, option, section
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import check_level

WORKLOAD_API = "workload-api"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSection:
    """Which gateway this is."""

    name: str = option("gateway", "Last element of its SPIFFE ID, and its MQTT name.")
    site: str = option("building-1", "The building on topics, and its name in the cloud.")
    trust_domain: str = option("building-1.smart.local", "The building's SPIFFE trust domain.")
    state: str = option(".plantroom/gateway", "Folder for everything that must survive a restart.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSection:
    """Where sensors connect."""

    host: str = option("0.0.0.0", "Address to listen on.")  # noqa: S104 -- sensors come from outside
    port: int = option(8883, "MQTT over mutual TLS; 0 takes a free port.", low=0, high=65_535)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSection:
    """How much is kept until the cloud has it, and what goes when there is no more room."""

    readings_max: int = option(10_000_000, "Readings in the queue and in the history.", low=100)
    bytes_max: int = option(536_870_912, "Their size on disk, in bytes.", low=1_048_576)
    age_s_max: float = option(
        0.0, "Readings that have waited longer (running time) are evicted. 0: never.", low=0
    )
    disk_free_bytes_min: int = option(
        67_108_864, "Below this much free disk, or an eighth of it, publishes are refused.", low=0
    )
    policy: str = option(
        "reject",
        "When full: refuse publishes, evict the oldest readings, or evict those that arrive.",
        choices=("reject", "oldest", "newest"),
    )
    durability: str = option(
        "durable",
        "`relaxed` acknowledges before the disk has it: a power cut may lose readings.",
        choices=("durable", "relaxed"),
    )
    quarantine_bytes_max: int = option(
        16_777_216, "Raw bytes kept of what is quarantined; beyond, only its books.", low=0
    )
    history_bytes_max: int = option(
        268_435_456,
        "Confirmed readings kept as local history; beyond, the disk gets it back.",
        low=0,
    )
    reserve_bytes: int = option(
        4_194_304, "File that is given up on a full disk, so that space can be freed.", low=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSection:
    """The way to the cloud."""

    address: str = option("127.0.0.1:18833", "The cloud's MQTT broker, host:port. Empty: no cloud.")
    cloud_trust_domain: str = option("smart-building.cloud", "Whom the bridge talks to.")
    cloud_id: str = option("agent/front", "Path of the cloud broker's SPIFFE ID.")
    live_readings_max: int = option(500, "Readings in a batch of what arrives.", low=1, high=5000)
    backfill_readings_max: int = option(
        500, "Readings in a batch of the backlog.", low=1, high=5000
    )
    batch_bytes_max: int = option(
        1_000_000, "Size of a batch before compression.", low=10_000, high=16_000_000
    )
    linger_ms: int = option(50, "How long a live batch waits for company.", low=0, high=60_000)
    window: int = option(16, "Batches of a lane without their receipt.", low=1, high=256)
    bytes_per_s_max: int = option(0, "Bandwidth cap of the backlog. 0: none.", low=0)
    hello_s: float = option(120.0, "How often books are compared with the cloud's.", low=1)
    answer_timeout_s: float = option(
        30.0, "After so long without an owed answer the link counts as lost.", low=1
    )
    keepalive_s: int = option(60, "MQTT keep-alive.", low=5, high=65_535)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySection:
    """The building's own issuer, and the gateway's identity in the cloud."""

    provider: str = option(
        "embedded",
        "embedded: an issuer of one's own here, and the cloud's; workload-api: SPIRE's agents,"
        " or other SPIFFE Workload APIs, for both identities.",
        choices=("embedded", WORKLOAD_API),
    )
    workload_api: str = option(
        "", "provider workload-api: unix:/path of the building's. Empty: SPIFFE_ENDPOINT_SOCKET."
    )
    cloud_workload_api: str = option("", "provider workload-api: unix:/path of the cloud's.")
    workload_owner: str = option(
        "", "User who may own those sockets, beside root and the gateway's own."
    )
    workload_socket: str = option(
        "", "Path of a socket where the own issuer serves the SPIFFE Workload API. Empty: nowhere."
    )
    enrol_host: str = option("0.0.0.0", "Address of the enrolment port.")  # noqa: S104 -- as above
    enrol_port: int = option(
        8444, "HTTPS for sensors' enrolment; 0: a free one.", low=0, high=65_535
    )
    svid_ttl_s: int = option(3600, "Life of this gateway's SVID.", low=10, high=86_400)
    dns: tuple[str, ...] = option(("localhost",), "Host names in its server certificate.")
    ips: tuple[str, ...] = option(("127.0.0.1", "::1"), "Addresses in its server certificate.")
    cloud_enrol_address: str = option(
        "127.0.0.1:18834", "Where the cloud gives this gateway its SVID, host:port."
    )
    cloud_enrol_id: str = option("agent/front", "Path of that server's SPIFFE ID.")
    join_token_file: str = option(
        "", "File with the join token of the cloud. Empty: `uplink/join-token` in the state folder."
    )
    attestor: str = option(
        "join-token",
        "What the cloud's first SVID is asked with; tpm: the chip, for every SVID anew.",
        choices=("join-token", "tpm"),
    )
    tpm: str = option("/dev/tpmrm0", "attestor tpm: its device; unix:/path for swtpm.")
    tpm_ek: str = option("rsa", "attestor tpm: which endorsement key.", choices=("rsa", "ecc"))
    bundle_file: str = option(
        "", "File with the cloud's trust bundle. Empty: `uplink/bundles.json` in the state folder."
    )
    late_s_max: int = option(
        2_592_000,
        "How long after its end, or before its begin, an SVID still renews, but no more. 0: never.",
        low=0,
    )
    tpm_ca_file: str = option(
        "", "PEM certificates of those who sign the chips of sensors, intermediates as well."
    )
    tpm_pcrs: tuple[int, ...] = option(
        tuple(range(8)), "Registers of a sensor's chip that are compared with its golden sets."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection:
    """The building's own page, API and metrics."""

    host: str = option("127.0.0.1", "Address to listen on.")
    port: int = option(8080, "Port; 0 takes a free one.", low=0, high=65_535)
    tls: str = option(
        "auto",
        "TLS with client certificates: auto means unless `host` is loopback."
        " off is for a port that something in front publishes on loopback only.",
        choices=("auto", "on", "off"),
    )
    names: tuple[str, ...] = option((), "Further host names under which a browser may ask.")

    @property
    def needs_tls(self) -> bool:
        """Whether it is served over TLS with client certificates."""
        if self.tls != "auto":
            return self.tls == "on"
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewsSection:
    """Readable topics with the latest values."""

    publish: bool = option(True, "Publish `view` topics (JSON, retained, in memory only).")
    period_s: float = option(1.0, "At most one value a point in this time.", low=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPolicySection(PolicySection):
    """Who decides what a client may do, and where sensors and OPA clients ask."""

    host: str = option("127.0.0.1", "Address of the policy port.")
    port: int = option(
        0, "OPA's REST data API over mutual TLS, answered here. 0: none.", low=0, high=65_535
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """What is logged, and where to."""

    level: str = option("INFO", "Least severe.", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    target: str = option("stderr", "Where to.", choices=("stderr", "syslog"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OtaSection:
    """Images of firmware for the building; off where there is no trust document."""

    trust_file: str = option(
        "", "First trust document. Empty: `ota/trust.cbor` in the state folder, if any."
    )
    images_bytes_max: int = option(
        256 * 1024**2, "Images kept, in bytes; those that no head names go first.", low=1024**2
    )
    broadcast_from: int = option(
        3, "Sensors that want an image at a time make it a broadcast.", low=2, high=10_000
    )
    broadcast_bytes_per_s: float = option(
        1_000_000.0, "Pace of a broadcast, so that readings keep theirs.", low=1000.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Everything that `plantroom gateway run` can be told."""

    agent: AgentSection = section(AgentSection)
    broker: BrokerSection = section(BrokerSection)
    limits: SmallMachine = section(SmallMachine)
    queue: QueueSection = section(QueueSection)
    bridge: BridgeSection = section(BridgeSection)
    identity: IdentitySection = section(IdentitySection)
    federation: FederationSection = section(FederationSection)
    ota: OtaSection = section(OtaSection)
    http: HttpSection = section(HttpSection)
    views: ViewsSection = section(ViewsSection)
    policy: GatewayPolicySection = section(GatewayPolicySection)
    log: LogSection = section(LogSection)


def read(path: Path | None, environ: Mapping[str, str]) -> GatewaySettings:
    """Read the settings, and check what no single key can show.

    Raises:
        ConfigError: naming file, key, what was expected and what to do.
    """
    settings = load(GatewaySettings, path, environ)
    source = str(path or "defaults")
    agent, bridge, identity = settings.agent, settings.bridge, settings.identity
    try:
        check_level(agent.name)
        check_level(agent.site)
        SpiffeId.parse(f"spiffe://{agent.trust_domain}/agent/{agent.name}")
        SpiffeId.parse(f"spiffe://{bridge.cloud_trust_domain}/gateway/{agent.site}")
        SpiffeId.parse(f"spiffe://{bridge.cloud_trust_domain}/{bridge.cloud_id}")
        SpiffeId.parse(f"spiffe://{bridge.cloud_trust_domain}/{identity.cloud_enrol_id}")
    except (SpiffeIdError, TopicError) as error:
        remedy = "see [agent], [bridge] and [identity]"
        raise ConfigError(str(error), where=source, remedy=remedy) from error
    if identity.provider == WORKLOAD_API and identity.workload_socket:
        raise ConfigError(
            "identity.workload_socket needs an issuer of one's own",
            where=source,
            remedy='leave it empty, or write identity.provider = "embedded"',
        )
    if bridge.address:
        split_address(bridge.address, "bridge.address", source)
        split_address(identity.cloud_enrol_address, "identity.cloud_enrol_address", source)
    federation_settings.endpoints(settings.federation, source=str(path or "defaults"))
    return settings


def split_address(address: str, key: str, source: str = "") -> tuple[str, int]:
    """Split `host:port` (or `[v6]:port`).

    Raises:
        ConfigError: naming the key.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigError(
            f"{key} is {address[:80]!r}", where=source, remedy='write "host:port", port 1 to 65535'
        )
    return host.strip("[]"), int(port)
