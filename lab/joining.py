"""What a new device has to be told, and what it shows: join codes and fingerprints."""

import os
import socket
from pathlib import Path

from plantroom.certs import attestors
from plantroom.certs.attestation import PUB_HASH
from plantroom.certs.attestor_token import admit_command
from plantroom.certs.attestor_tpm import TpmAttestor
from plantroom.certs.enrolled import NEW_CSR_FILE, TOKEN_FILE, EnrolledSource
from plantroom.certs.enrolment_client import Server
from plantroom.certs.entry import Entry
from plantroom.certs.join_code import JoinCode
from plantroom.certs.registry import Registry
from plantroom.cloud import settings as cloud_settings
from plantroom.device import settings as device_settings
from plantroom.device.settings import host_port
from plantroom.gateway import settings as gateway_settings
from plantroom.lab import issuers
from plantroom.lab.building import FRONT_ID, GATEWAY_ID, TRUST_DOMAIN
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- what to replace


def join_code(layout: Layout, spiffe_id: SpiffeId, token: str, address: str = "") -> JoinCode:
    """Make the code that a device joins with; without an address, the one in the configuration."""
    below = spiffe_id.trust_domain == TRUST_DOMAIN
    return JoinCode(
        token=token,
        root_sha256=issuers.responsible(layout, spiffe_id.trust_domain).authority().root_sha256(),
        address=address or enrol_address(layout, spiffe_id.trust_domain),
        server=GATEWAY_ID if below else FRONT_ID,
        spiffe_id=spiffe_id,
    )


def enrol_address(layout: Layout, trust_domain: str) -> str:
    """Return where this trust domain's enrolment port listens, as far as is known here."""
    kind = "gateway" if trust_domain == TRUST_DOMAIN else "cloud"
    path: Path | None = layout.config(kind)
    path = path if path is not None and path.exists() else None
    read = gateway_settings.read if kind == "gateway" else cloud_settings.read
    identity = read(path, os.environ).identity
    host = socket.getfqdn() if identity.enrol_host in _ANYWHERE else identity.enrol_host
    return f"[{host}]:{identity.enrol_port}" if ":" in host else f"{host}:{identity.enrol_port}"


def admit(issuer: issuers.Issuer, fingerprint: str, spiffe_id: SpiffeId, role: str | None) -> str:
    """Let a key (or with `tpm:pub_hash:` a chip) be this ID; return what it was."""
    with issuer.registry() as registry, issuer.attest_store() as store:
        known = {one.fingerprint: one.kind for one in store.waiting()}
        if known.get(fingerprint) == "ek":
            entry = _entry(registry, spiffe_id, role)
            others = [one for one in entry.selectors if not one.startswith(PUB_HASH)]
            registry.create(
                spiffe_id,
                role=entry.role,
                parent=entry.parent,
                selectors=(*others, PUB_HASH + fingerprint),
                ttl_s=entry.ttl_s,
                dns=entry.dns,
                ips=entry.ips,
            )
            return "chip"
        _entry(registry, spiffe_id, role)
        store.admit(fingerprint, spiffe_id)
        return "key"


def _entry(registry: Registry, spiffe_id: SpiffeId, role: str | None) -> Entry:
    try:
        return registry.show(spiffe_id)
    except IdentityError:
        return registry.create(spiffe_id, role=role)


def shown_by(config: Path) -> tuple[str, str]:
    """Return the fingerprint of a sensor's key or chip, and the command that lets it in.

    Raises:
        PlantroomError: when the configuration, the key or the chip cannot be used.
    """
    settings = device_settings.read(config, os.environ)
    identity, folder = settings.identity, settings.state / "identity"
    attestor = attestors.choose(
        identity.attestor,
        token_file=Path(identity.join_token_file or folder / TOKEN_FILE),
        spiffe_id=settings.spiffe_id,
        tpm=identity.tpm,
        tpm_ek=identity.tpm_ek,
    )
    if isinstance(attestor, TpmAttestor):
        selector = attestor.fingerprint()
        command = f"plantroom identity entry create {settings.spiffe_id} --selector {selector}"
        return selector, command
    host, port = host_port(identity.enrol_address, "identity.enrol_address")
    server = Server(host=host, port=port, spiffe_id=SpiffeId.parse(identity.gateway_id))
    source = EnrolledSource(folder, spiffe_id=settings.spiffe_id, server=server, attestor=attestor)
    fingerprint = source.fingerprint()
    return fingerprint, admit_command((folder / NEW_CSR_FILE).read_bytes(), settings.spiffe_id)
