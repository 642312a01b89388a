"""The settings of policy that every process with a broker has: who decides, and from what."""

from dataclasses import dataclass

from plantroom.wire.settings import option


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySection:
    """Who decides what a client may do: the Rego bundle in this process, or an OPA server."""

    provider: str = option(
        "embedded",
        "`embedded`: in this process. `remote`: an OPA server, and without it nobody may.",
        choices=("embedded", "remote"),
    )
    bundle: str = option(
        "", "Folder of the bundle, watched for changes. Empty: the one that ships with Plantroom."
    )
    bundle_key: str = option(
        "", "PEM of the public key that the bundle must be signed with (`opa sign`). Empty: none."
    )
    endpoint: str = option("", "The OPA server, https://host:port (http on this machine only).")
    endpoint_id: str = option("", "The OPA server's SPIFFE ID, for https.")
    timeout_s: float = option(0.25, "Longest wait for the OPA server.", low=0.01, high=0.25)
    push: bool = option(
        True, "Deliver registry and revocations to the OPA server, through its data API."
    )
    cache_ttl_s: float = option(300.0, "Longest life of a cached decision.", low=0, high=300)
    poll_s: float = option(
        0.5, "How often registry, revocations and bundle are looked at.", low=0.1, high=5
    )
    log_bytes_max: int = option(
        33_554_432, "Disk for the decision log, in the state folder. 0: none.", low=0
    )
    log_lines_s: float = option(
        200.0, "Decisions that are written down a second; the rest is counted.", low=1
    )
