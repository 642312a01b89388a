"""Every setting of a sensor agent: sections, keys, defaults, ranges, and the line that explains."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantroom.device.journal import LEVELS
from plantroom.wire.errors import ConfigError, SpiffeIdError, TopicError
from plantroom.wire.firmware import DEFAULT_VENDOR
from plantroom.wire.settings import load, option, section
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import check_level


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Who this agent is."""

    name: str = option("hvac-001", "Name on topics: the last element of the SPIFFE ID.")
    trust_domain: str = option("building-1.smart.local", "Trust domain of the building.")
    device_label: str = option("HVAC-SENSOR-001", "Label on the device.")
    kind: str = option("hvac", "Kind of device.", choices=("hvac", "occupancy", "energy"))
    place: str = option("Floor-2-Zone-A", "Where it is.")
    description: str = option("HVAC sensor", "What it is, for people.")
    state: str = option(
        "/var/lib/plantroom/device", "Folder of the outbox, identity and lock; one agent each."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitySettings:
    """What this agent can be asked: each capability with its description; empty: not offered."""

    read_sensors: str = option(
        "takes a fresh reading, which is also buffered", "Description of read_sensors."
    )
    sync_buffered: str = option(
        "sends what is still in the outbox, and says what it is", "Description of sync_buffered."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """How calls to the capabilities are taken."""

    queue_max: int = option(32, "Calls that may wait; more are told to come later.", low=1)
    keys_max: int = option(256, "Idempotency keys that are remembered.", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Where the agent's X.509-SVID comes from."""

    provider: str = option(
        "enrol",
        "enrol: from the gateway's issuer; files: from files that another tool rotates;"
        " workload-api: from SPIRE's agent, or another SPIFFE Workload API.",
        choices=("enrol", "files", "workload-api"),
    )
    enrol_address: str = option("127.0.0.1:18831", "Enrolment port of the gateway, host:port.")
    gateway_id: str = option(
        "spiffe://building-1.smart.local/agent/gateway", "The exact SPIFFE ID of the gateway."
    )
    join_token_file: str = option(
        "", "File with the join token or join code; empty: identity/join-token in the state."
    )
    attestor: str = option(
        "join-token",
        "What a first SVID is asked with; tpm: the chip, and then for every SVID anew.",
        choices=("join-token", "tpm"),
    )
    tpm: str = option("/dev/tpmrm0", "attestor tpm: its device; unix:/path for swtpm.")
    tpm_ek: str = option("rsa", "attestor tpm: which endorsement key.", choices=("rsa", "ecc"))
    bundle_file: str = option("", "Trust bundle that pins the gateway; empty: bundles.json there.")
    chain_file: str = option("", "provider files: PEM chain, leaf first.")
    key_file: str = option("", "provider files: PEM key.")
    workload_api: str = option(
        "", "provider workload-api: unix:/path of its socket. Empty: SPIFFE_ENDPOINT_SOCKET."
    )
    workload_owner: str = option(
        "", "User who may own that socket, beside root and the agent's own."
    )
    lightweight: bool = option(
        True, "Check the gateway with OpenSSL alone; false loads cryptography for every rule."
    )
    svid_cache_size: int = option(1, "SVIDs kept; an agent has one identity.", low=1, high=1)
    bundle_refresh_s: int = option(
        3600, "Renew at least this often: bundles come with the SVID.", low=60
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """Who decides what this agent may do, and who may call it."""

    provider: str = option("gateway", "The gateway is asked.", choices=("gateway",))
    endpoint: str = option(
        "", "The gateway's policy port, host:port; empty: its broker's word on calls is enough."
    )
    cache_ttl_s: int = option(300, "How long a decision may be reused.", low=0, high=300)
    timeout_s: float = option(2.0, "Longest wait for a decision.", low=0.1, high=10)
    cloud_trust_domain: str = option("smart-building.cloud", "Whom callers from the cloud are of.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How connections are secured."""

    minimum_version: str = option("1.3", "Oldest TLS that is spoken.", choices=("1.3",))
    connection_reuse: bool = option(
        True, "Stay connected; false: connect to send, then sleep until there is more."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """The way to the gateway's broker."""

    address: str = option("127.0.0.1:18830", "The gateway's MQTT port, host:port.")
    protocol: int = option(5, "MQTT version: 5, or 4 for 3.1.1.", low=4, high=5)
    keepalive_s: int = option(60, "MQTT keepalive.", low=5, high=65535)
    timeout_s: float = option(10.0, "Longest wait for a connection or CONNACK.", low=0.1)
    puback_timeout_s: float = option(30.0, "Longest wait for a PUBACK: then reconnect.", low=1)
    batch_readings: int = option(50, "Most readings of one publish.", low=1, high=500)
    batch_bytes_max: int = option(65536, "Most bytes of one publish.", low=1024, high=262144)
    window: int = option(4, "Publishes that may wait for their PUBACK.", low=1, high=64)
    linger_s: float = option(0.0, "How long a publish may wait to become full.", low=0)
    parked_retry_s: float = option(300.0, "How often a refused reading is tried again.", low=1)
    reconnect_s_max: float = option(30.0, "Longest pause between tries to connect.", low=1)
    presence_s: float = option(300.0, "How often the presence message is renewed.", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSettings:
    """The outbox: what is kept while the gateway is away; the oldest go first, and it is said."""

    readings_max: int = option(1000, "Readings kept, sent ones included.", low=1)
    bytes_max: int = option(4194304, "Bytes kept.", low=262144)
    age_s_max: int = option(0, "Running time after which a reading goes; 0: never.", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """What is measured, and how often."""

    driver: str = option("simulated", "Where readings come from.", choices=("simulated", "replay"))
    period_s: float = option(60.0, "A reading every so often, online or not.", low=0.001)
    speed: float = option(1.0, "Times as fast, timestamps included.", low=0.001, high=1e6)
    seed: int = option(1, "Seed of the simulated building.", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """The recording, for the driver replay."""

    file: str = option("", "CSV file with a time column.")
    map: str = option("", "Mapping of its columns, TOML; empty: one that ships, by the header.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The agent's own /metrics, /healthz and /readyz."""

    enabled: bool = option(False, "Serve HTTP; off unless asked for.")
    host: str = option("127.0.0.1", "Address; beyond loopback it is HTTPS with client SVIDs.")
    port: int = option(8443, "Port; 0: any.", low=0, high=65535)
    connections_max: int = option(5, "Connections at a time.", low=1)
    request_timeout_s: float = option(30.0, "Longest a request may take.", low=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Figures at /metrics."""

    enabled: bool = option(False, "Show figures at /metrics (needs [server]).")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """Firmware updates: off where there is no trust document."""

    trust_file: str = option("", "First trust document; empty: ota-trust.cbor in the state.")
    vendor: str = option(DEFAULT_VENDOR, "Vendor's domain: names the vendor in manifests.")
    class_name: str = option("", "Class of this device; empty: agent.kind.")
    factory_version: str = option("1.0.0", "Version that the device was made with.")
    factory_sequence: int = option(0, "Its sequence number: older releases are refused.", low=0)
    window: int = option(8, "Chunks that may be asked for at a time.", low=1, high=64)
    failures_max: int = option(50, "Unanswered requests and bad chunks of a download.", low=1)
    retry_s: float = option(3600.0, "A failed update is tried again after so long.", low=1)
    boots: int = option(3, "Starts that a new image has to prove itself.", low=1, high=10)
    health_s: float = option(120.0, "Time of each start to be well and reach the gateway.", low=1)
    spare_bytes: int = option(4194304, "Disk space that an image leaves to readings.", low=0)
    installer: str = option("slots", "Who installs images.", choices=("slots", "command"))
    install_command: str = option("", "installer command: takes the file {image}.")
    running_command: str = option("", "installer command: prints the running version or digest.")
    good_command: str = option("", "installer command: the new image stays.")
    bad_command: str = option("", "installer command: go back to the image before.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written down."""

    level: str = option("WARNING", "Least grave line that is written.", choices=LEVELS)
    target: str = option("syslog", "Where lines go.", choices=("syslog", "stderr"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """All sections."""

    agent: AgentSettings = section(AgentSettings)
    capabilities: CapabilitySettings = section(CapabilitySettings)
    calls: CallSettings = section(CallSettings)
    identity: IdentitySettings = section(IdentitySettings)
    policy: PolicySettings = section(PolicySettings)
    tls: TlsSettings = section(TlsSettings)
    uplink: UplinkSettings = section(UplinkSettings)
    buffer: BufferSettings = section(BufferSettings)
    sampling: SamplingSettings = section(SamplingSettings)
    replay: ReplaySettings = section(ReplaySettings)
    server: ServerSettings = section(ServerSettings)
    metrics: MetricsSettings = section(MetricsSettings)
    updates: UpdateSettings = section(UpdateSettings)
    log: LogSettings = section(LogSettings)

    @property
    def spiffe_id(self) -> SpiffeId:
        """The agent's own identity."""
        return SpiffeId(self.agent.trust_domain, f"agent/{self.agent.name}")

    @property
    def site(self) -> str:
        """The building's name on topics."""
        return self.agent.trust_domain.partition(".")[0]

    @property
    def class_name(self) -> str:
        """The class of devices whose releases are for this one."""
        return self.updates.class_name or self.agent.kind

    @property
    def state(self) -> Path:
        """The folder of everything that has to survive."""
        return Path(self.agent.state)


def read(path: Path | None, environ: Mapping[str, str]) -> DeviceSettings:
    """Read the settings, and check what no single key can show.

    Raises:
        ConfigError: naming file, key, what was expected and what to do.
    """
    settings = load(DeviceSettings, path, environ)
    source = str(path or "defaults")
    try:
        SpiffeId.parse(str(settings.spiffe_id))
        check_level(settings.agent.name)
        check_level(settings.site)
        check_level(settings.class_name)
        SpiffeId.parse(settings.identity.gateway_id)
    except (SpiffeIdError, TopicError) as error:
        raise ConfigError(str(error), where=source, remedy="see [agent] and [identity]") from error
    host_port(settings.uplink.address, "uplink.address", source)
    host_port(settings.identity.enrol_address, "identity.enrol_address", source)
    if settings.policy.endpoint:
        host_port(settings.policy.endpoint, "policy.endpoint", source)
    if settings.updates.installer == "command" and not settings.updates.install_command:
        raise ConfigError(
            "updates.install_command is empty", where=source, remedy="write what takes {image}"
        )
    if settings.sampling.driver == "replay" and not settings.replay.file:
        raise ConfigError(
            "replay.file is empty", where=source, remedy="name the CSV that is to be replayed"
        )
    return settings


def host_port(address: str, key: str = "address", source: str = "") -> tuple[str, int]:
    """Split `host:port`, also `[::1]:1883`.

    Raises:
        ConfigError: when it is something else.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"{key} is {address!r}", where=source, remedy='write "host:port", port 1 to 65535'
        )
    return host, int(port)
