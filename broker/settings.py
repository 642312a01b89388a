"""Settings of the broker: its limits (a section of every process that has one) and its own file."""

from dataclasses import dataclass

from plantroom.wire.policy_settings import PolicySection
from plantroom.wire.settings import option, section


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """What one broker takes from all its clients together, and from one of them."""

    connections_max: int = option(10_000, "Connections at a time.", low=1)
    handshakes_max: int = option(200, "TLS handshakes at a time; more wait their turn.", low=1)
    address_handshakes_max: int = option(
        100, "TLS handshakes at a time with one address; more wait their turn.", low=1
    )
    address_waiting_max: int = option(
        2000, "Connections of one address that have not got through CONNECT.", low=1
    )
    handshake_timeout_s: float = option(
        10.0, "Time to wait for TLS, for TLS, and again for CONNECT.", low=0.1
    )
    packet_timeout_s: float = option(
        30.0, "Time from the first byte of a packet to its last.", low=0.1
    )
    partial_bytes_max: int = option(
        268_435_456,
        "Memory for packets that have not come whole, of all clients: beyond half of it large ones"
        " wait their turn.",
        low=65_536,
    )
    receive_bytes_max: int = option(
        0,
        "What one client may have sent that is not read yet (SO_RCVBUF). 0: the system decides,"
        " often megabytes: best on a long way with much to carry.",
        low=0,
        high=16_777_216,
    )
    tcp_keepalive_s: int = option(
        60, "Silence after which TCP asks whether the other end is there.", low=1, high=32_767
    )
    packet_bytes_max: int = option(1_048_576, "Largest packet.", low=1024, high=268_435_460)
    connect_bytes_max: int = option(
        262_144, "Largest CONNECT, before anybody is known.", low=256, high=268_435_460
    )
    receive_maximum: int = option(
        1000, "Publishes of QoS 1 and 2 that a client may have unanswered.", low=1, high=65_535
    )
    topic_alias_maximum: int = option(16, "Topic aliases of a client.", low=0, high=65_535)
    client_id_bytes_max: int = option(1024, "Longest client id.", low=23, high=65_535)
    will_bytes_max: int = option(65_535, "Largest payload of a will.", low=0, high=65_535)
    user_properties_max: int = option(
        256, "User properties of a CONNECT, a will or a publish.", low=32
    )
    topic_bytes_max: int = option(4096, "Longest topic or filter.", low=64, high=65_535)
    topic_levels_max: int = option(32, "Levels of a topic or filter.", low=1, high=1000)
    keepalive_s_max: int = option(
        600, "Longest keep-alive; others get this one (MQTT 5). 0: no limit.", low=0, high=65_535
    )
    session_expiry_s_max: int = option(
        604_800, "How long a session is kept without a connection.", low=0, high=4_294_967_295
    )
    sessions_max: int = option(20_000, "Sessions, connected or not.", low=1)
    identity_sessions_max: int = option(
        1000, "Sessions of one SPIFFE ID (with different client ids).", low=1
    )
    subscribe_filters_max: int = option(
        1000, "Topic filters in one SUBSCRIBE or UNSUBSCRIBE.", low=1
    )
    subscriptions_max: int = option(200_000, "Subscriptions of all sessions.", low=1)
    session_subscriptions_max: int = option(1000, "Subscriptions of one session.", low=1)
    session_queue_bytes_max: int = option(
        16_777_216,
        "Memory for what one session still has to get; more of a durable one waits on the disk.",
        low=65_536,
    )
    log_bytes_max: int = option(
        1_073_741_824,
        "Disk for messages that durable sessions still have to get, or taps to read.",
        low=1_048_576,
    )
    session_log_bytes_max: int = option(
        268_435_456,
        "Disk for what one session that is away or behind still has to get; more is dropped, with"
        " an audit.",
        low=65_536,
    )
    log_full: str = option(
        "refuse",
        "What is done when that is full: `refuse` such publishes (0x97; an MQTT 3.1.1 client is"
        " held and closed), or `drop` what is for sessions that are away or behind, with an audit.",
        choices=("refuse", "drop"),
    )
    inflight_max: int = option(
        5000, "Messages on their way to a client without its answer.", low=1, high=65_535
    )
    outbound_bytes_max: int = option(
        4_194_304,
        "Bytes that a client may leave unread, beyond a burst.",
        low=65_536,
    )
    slow_consumer_s: float = option(
        10.0, "Time in which a client with so much unread has to read some of it.", low=0.1
    )
    retained_max: int = option(100_000, "Retained messages.", low=0)
    retained_bytes_max: int = option(
        268_435_456, "Memory for the topics and payloads of retained messages.", low=0
    )
    commit_depth_bytes_max: int = option(
        8_388_608, "Bytes that may wait for the disk before reading stops.", low=65_536
    )
    gather_s: float = option(
        0.002,
        "How long a publish may wait for others to share its commit, five times that where many"
        " come: more saves CPU, 0 answers soonest.",
        low=0.0,
        high=1.0,
    )
    hold_s: float = option(
        10.0,
        "How long an MQTT 3.1.1 client is held without PUBACK when nothing can be stored.",
        low=0.1,
    )
    audit_lines_max: int = option(
        200, "Audit lines of one peer (SPIFFE ID, or address) at once; more are counted.", low=1
    )
    audit_lines_s: float = option(2.0, "Audit lines of one peer a second, after that.", low=0.001)
    sys_interval_s: float = option(10.0, "How often $SYS topics are refreshed. 0: never.", low=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingsFirst(BrokerLimits):
    """The limits of a broker through which readings pass: nobody's queue may stop them."""

    log_full: str = option(
        "drop",
        "What is done when that is full: `drop` what is for sessions that are away or behind, with"
        " an audit, or `refuse` everybody, readings too.",
        choices=("refuse", "drop"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallMachine(ReadingsFirst):
    """The limits of a gateway's broker: readings first, short of memory, clients near and many."""

    partial_bytes_max: int = option(
        67_108_864,
        "Memory for packets that have not come whole, of all clients: beyond half of it large ones"
        " wait their turn.",
        low=65_536,
    )
    receive_bytes_max: int = option(
        16_384,
        "What one client may have sent that is not read yet (SO_RCVBUF). 0: the system decides,"
        " often megabytes: best on a long way with much to carry.",
        low=0,
        high=16_777_216,
    )
    commit_depth_bytes_max: int = option(
        2_097_152, "Bytes that may wait for the disk before reading stops.", low=65_536
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSection:
    """Where the broker listens."""

    host: str = option("127.0.0.1", "Address.")
    port: int = option(8883, "Port; 0 takes a free one.", low=0, high=65_535)
    tls: bool = option(True, "TLS 1.3 with client certificates; without it everybody is anonymous.")
    log_level: str = option(
        "INFO", "What goes to stderr.", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSection:
    """A second listener, for MQTT over WebSocket (subprotocol `mqtt`)."""

    enabled: bool = option(False, "Whether there is one.")
    host: str = option("127.0.0.1", "Address.")
    port: int = option(8884, "Port; 0 takes a free one.", low=0, high=65_535)
    tls: bool = option(True, "wss with client certificates; without it everybody is anonymous.")
    origins: str = option(
        "",
        "Web pages that may connect, as https://name[:port], separated by commas; `*`: all."
        " Programs, which send no Origin, always may.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySection:
    """PEM files; a file that changes is read again, live connections stay."""

    certificate: str = option("", "The server's chain, leaf first.")
    key: str = option("", "Its private key.")
    client_roots: str = option("", "Roots of the clients' SPIFFE certificates.")
    reload_s: float = option(10.0, "How often the files are looked at.", low=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSection:
    """Where sessions, retained messages and queues are kept."""

    kind: str = option("sqlite", "`memory` forgets everything.", choices=("sqlite", "memory"))
    path: str = option("broker.db", "The SQLite file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSection:
    """Who may do what, when no policy bundle is loaded."""

    allow_all: bool = option(
        False, "Everybody who gets a connection may do everything. Otherwise nobody may."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPolicySection(PolicySection):
    """Who decides what a client may do, beyond [access]."""

    provider: str = option(
        "none",
        "`none`: [access] says. `embedded`: the Rego bundle, in this process. `remote`: an OPA"
        " server, and without it nobody may.",
        choices=("none", "embedded", "remote"),
    )
    data: str = option(
        "", "JSON file with `registry` and `revocation`, watched. Empty: the server has its own."
    )
    state: str = option("", "Folder of the last good bundle and the decision log. Empty: none.")
    cloud_trust_domain: str = option("smart-building.cloud", "Whose services and people there are.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection:
    """Figures for Prometheus, and whether it is well."""

    host: str = option("127.0.0.1", "Address of /metrics and /healthz.")
    port: int = option(0, "Port. 0: none.", low=0, high=65_535)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSection:
    """What `plantroom broker sessions|kick|retained` talk to."""

    socket: str = option("broker.sock", "A Unix socket, for this user alone. Empty: none.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Everything that `plantroom broker run` can be told."""

    listen: ListenSection = section(ListenSection)
    websocket: WebSocketSection = section(WebSocketSection)
    identity: IdentitySection = section(IdentitySection)
    store: StoreSection = section(StoreSection)
    access: AccessSection = section(AccessSection)
    policy: BrokerPolicySection = section(BrokerPolicySection)
    limits: BrokerLimits = section(BrokerLimits)
    http: HttpSection = section(HttpSection)
    admin: AdminSection = section(AdminSection)
