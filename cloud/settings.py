"""Settings of the cloud: every limit with its default and unit, one section a part."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantroom.broker.settings import ReadingsFirst
from plantroom.certs import federation_settings
from plantroom.certs.federation_settings import FederationSection
from plantroom.wire.errors import ConfigError, SpiffeIdError
from plantroom.wire.policy_settings import PolicySection
from plantroom.wire.settings import load, option, section
from plantroom.wire.spiffe import SpiffeId

WORKLOAD_API = "workload-api"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSection:
    """Which cloud this is."""

    trust_domain: str = option("smart-building.cloud", "The cloud's SPIFFE trust domain.")
    state: str = option(".plantroom/cloud", "Folder for everything that must survive a restart.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSection:
    """Where gateways connect."""

    host: str = option("0.0.0.0", "Address to listen on.")  # noqa: S104 -- gateways come from outside
    port: int = option(8883, "MQTT over mutual TLS; 0 takes a free port.", low=0, high=65_535)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSection:
    """How batches are taken from gateways."""

    group_batches_max: int = option(
        64, "Batches of all gateways together that share one commit.", low=1, high=1000
    )
    waiting_batches_max: int = option(
        128, "Batches that wait for a commit before the broker has to wait.", low=1, high=10_000
    )
    hello_holes_max: int = option(
        5000, "Holes that are asked for in one answer to a gateway.", low=1, high=10_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSection:
    """Where readings are kept."""

    kind: str = option("sqlite", "Kind of store.", choices=("sqlite",))
    path: str = option("", "Its file. Empty: `store.db` in the state folder.")
    retention_days: float = option(
        0.0,
        "Readings taken longer ago go, and are booked evicted(retention). 0: never.",
        low=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySection:
    """The cloud's own issuer."""

    provider: str = option(
        "embedded",
        "embedded: an issuer of one's own here; workload-api: SPIRE's agent, or another SPIFFE"
        " Workload API, for every service.",
        choices=("embedded", WORKLOAD_API),
    )
    workload_api: str = option(
        "", "provider workload-api: unix:/path of its socket. Empty: SPIFFE_ENDPOINT_SOCKET."
    )
    workload_owner: str = option(
        "", "User who may own that socket, beside root and the cloud's own."
    )
    workload_socket: str = option(
        "", "Path of a socket where the own issuer serves the SPIFFE Workload API. Empty: nowhere."
    )
    enrol_host: str = option("0.0.0.0", "Address of the enrolment port.")  # noqa: S104 -- as above
    enrol_port: int = option(
        8444, "HTTPS for gateways' enrolment; 0: a free one.", low=0, high=65_535
    )
    svid_ttl_s: int = option(
        3600, "Life of the SVIDs of the cloud's services.", low=10, high=86_400
    )
    dns: tuple[str, ...] = option(("localhost",), "Host names in the server certificate.")
    ips: tuple[str, ...] = option(("127.0.0.1", "::1"), "Addresses in the server certificate.")
    bundle_file: str = option(
        "", "File with buildings' trust bundles. Empty: `bundles.json` in the state folder, if any."
    )
    late_s_max: int = option(
        2_592_000,
        "How long after its end, or before its begin, an SVID still renews, but no more. 0: never.",
        low=0,
    )
    tpm_ca_file: str = option(
        "", "PEM certificates of those who sign the chips of gateways, intermediates as well."
    )
    tpm_pcrs: tuple[int, ...] = option(
        tuple(range(8)), "Registers of a gateway's chip that are compared with its golden sets."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OtaSection:
    """Updates of devices over the air; off where there is no trust document."""

    trust_file: str = option(
        "", "First trust document. Empty: `ota/trust.cbor` in the state folder, if any."
    )
    head_key_file: str = option(
        "",
        "Private key (PEM) that signs heads. Empty: `ota/head.pem` in the state folder, if any;"
        " without one, heads are signed elsewhere.",
    )
    head_life_s: int = option(
        7 * 86_400, "How long a head may be used; it is renewed at half of it.", low=60
    )
    images_bytes_max: int = option(
        4 * 1024**3, "Images kept, in bytes; the oldest that no head names go.", low=1024**2
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection:
    """The dashboard, API and metrics."""

    host: str = option("127.0.0.1", "Address to listen on.")
    port: int = option(8080, "Port; 0 takes a free one.", low=0, high=65_535)
    tls: str = option(
        "auto",
        "TLS with client certificates: auto means unless `host` is loopback."
        " off is for a port that something in front publishes on loopback only.",
        choices=("auto", "on", "off"),
    )
    names: tuple[str, ...] = option((), "Further host names under which a browser may ask.")
    browsers_max: int = option(100, "Browsers that follow the feed at a time.", low=1, high=10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewsSection:
    """Latest values: the board, and readable topics with them."""

    devices_max: int = option(
        2000, "Devices on the board; who was heard of longest ago goes.", low=1
    )
    publish: bool = option(True, "Publish `view` topics (JSON, retained, in memory only).")
    period_s: float = option(1.0, "At most one value a point in this time.", low=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudPolicySection(PolicySection):
    """Who decides what a client may do."""

    server_folder: str = option(
        "", "Folder in which this issuer keeps an SVID for the OPA server. Empty: it has its own."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """What is logged, and where to."""

    level: str = option("INFO", "Least severe.", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    target: str = option("stderr", "Where to.", choices=("stderr", "syslog"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """Everything that `plantroom cloud run` can be told."""

    agent: AgentSection = section(AgentSection)
    front: FrontSection = section(FrontSection)
    limits: ReadingsFirst = section(ReadingsFirst)
    ingest: IngestSection = section(IngestSection)
    store: StoreSection = section(StoreSection)
    identity: IdentitySection = section(IdentitySection)
    federation: FederationSection = section(FederationSection)
    ota: OtaSection = section(OtaSection)
    http: HttpSection = section(HttpSection)
    views: ViewsSection = section(ViewsSection)
    policy: CloudPolicySection = section(CloudPolicySection)
    log: LogSection = section(LogSection)


def read(path: Path | None, environ: Mapping[str, str]) -> CloudSettings:
    """Read the settings, and check what no single key can show.

    Raises:
        ConfigError: naming file, key, what was expected and what to do.
    """
    settings = load(CloudSettings, path, environ)
    try:
        SpiffeId.parse(f"spiffe://{settings.agent.trust_domain}/agent/ingestion")
    except SpiffeIdError as error:
        where, remedy = str(path or "defaults"), "see agent.trust_domain"
        raise ConfigError(str(error), where=where, remedy=remedy) from error
    if settings.identity.provider == WORKLOAD_API and settings.identity.workload_socket:
        raise ConfigError(
            "identity.workload_socket needs an issuer of one's own",
            where=str(path or "defaults"),
            remedy='leave it empty, or write identity.provider = "embedded"',
        )
    federation_settings.endpoints(settings.federation, source=str(path or "defaults"))
    return settings
