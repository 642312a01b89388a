"""What the update service can be asked: by devices about themselves, by operators about the fleet.

Policy has let the call through; who asks is looked at here again, since a device may ask about
itself and about nobody else.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from plantroom.cloud import campaign, campaign_rules
from plantroom.cloud.campaign import Campaign
from plantroom.cloud.ota import Updates
from plantroom.cloud.ota_registry import Device
from plantroom.cloud.ota_sites import Sites
from plantroom.wire import calls
from plantroom.wire.errors import RefusedError, UsageError
from plantroom.wire.firmware import Release
from plantroom.wire.rfc3339 import format_us

PART_BYTES_MAX: Final = 128 * 1024
MEMBERS_MAX: Final = 1_000
AUDIT_MAX: Final = 1_000
CAMPAIGNS_MAX: Final = 1_000
SHOWN_CAMPAIGNS, SHOWN_MEMBERS, SHOWN_AUDIT = 20, 200, 30  # on the page
_OPERATORS: Final = ("cloud:operator:", "cloud:agent:devices")

Table = Mapping[str, Any]
Standing = Callable[[str, str], Awaitable[str]]


class OtaCalls:
    """Answers calls; `standing(site, device)` says why a device may not ask, or nothing."""

    def __init__(self, updates: Updates, standing: Standing) -> None:
        self._updates = updates
        self._standing = standing
        self._of_devices: dict[str, Callable[[calls.Asked, Table], Awaitable[object]]] = {
            "check_update": self._check_update,
            "download_firmware": self._download_firmware,
        }
        self._of_operators: dict[str, Callable[[calls.Asked, Table], Awaitable[object]]] = {
            "releases": self._releases,
            "revoke_release": self._revoke_release,
            "firmware_status": self._firmware_status,
            "update_audit": self._audit,
            "campaign_create": self._create,
            "campaign_list": self._list,
            "campaign_show": self._show,
            "campaign_pause": self._pause,
            "campaign_resume": self._resume,
            "campaign_abort": self._abort,
        }

    async def answer(self, asked: calls.Asked) -> object:
        """Answer one call.

        Raises:
            UsageError: naming what is wrong with it.
            RefusedError: when its caller may not ask this.
        """
        data = {} if asked.call.data is None else asked.call.data
        if not isinstance(data, dict):
            raise UsageError("data is not a map", where=asked.capability)
        if asked.capability in self._of_devices:
            return await self._of_devices[asked.capability](asked, data)
        ability = self._of_operators.get(asked.capability)
        if ability is None:
            known = ", ".join([*self._of_devices, *self._of_operators])
            raise UsageError("no such capability", where=asked.capability, remedy=f"known: {known}")
        if not asked.caller.startswith(_OPERATORS):
            raise RefusedError("only operators may ask this", reason="caller", where=asked.caller)
        return await ability(asked, data)

    # devices

    async def _caller(self, asked: calls.Asked, data: Table) -> Device:
        """Return the device that asks, if it asks about itself, is registered and not revoked."""
        named = _text(data, "device_id").rpartition("/")[2]
        if named != asked.caller:
            raise RefusedError(
                "a device may ask about itself alone", reason="caller", where=asked.caller
            )
        why = await self._standing(asked.site, named)
        if why:
            raise RefusedError(why, reason="standing", where=f"{asked.site} {named}")
        device = self._updates.devices.get((asked.site, named))
        if device is None:
            raise RefusedError("this device is not known", reason="unknown", where=named)
        return device

    def _offered(self, device: Device, kind: str) -> Release | None:
        """Return the release that is meant for a device now."""
        documents = self._updates.sites.documents(device.site)
        release = self._updates.sites.current(device.site, kind)
        if release is None or documents.head is None or release.digest in documents.head.revoked:
            return None
        pin = documents.head.classes[release.class_id]
        return release if pin.rollout == "all" or self._is_assigned(device, release) else None

    def _is_assigned(self, device: Device, release: Release) -> bool:
        key = device.site, device.device
        return any(
            key in one.members and one.members[key].state not in {"PENDING", "CANCELED"}
            for one in self._updates.campaigns.values()
            if one.plan.release == release.digest.hex()
        )

    async def _check_update(self, asked: calls.Asked, data: Table) -> object:
        device = await self._caller(asked, data)
        kind, current = _text(data, "device_type").lower(), _text(data, "current_version")
        if device.kind and kind != device.kind:
            raise RefusedError("this device is of another type", reason="type", where=kind)
        release = self._offered(device, kind)
        if release is None or version_key(release.version) <= version_key(current):
            return {"update": False, "version": current}
        return {"update": True, **_describe(release), "signature": self._signature(release)}

    async def _download_firmware(self, asked: calls.Asked, data: Table) -> object:
        """Give an image part by part, with the signed manifest that vouches for it."""
        device = await self._caller(asked, data)
        release = self._offered(device, _text(data, "device_type").lower())
        version = _text(data, "version")
        if release is None or release.version != version:
            raise UsageError("there is no such release for this device", where=version)
        offset = data.get("offset", 0)
        if type(offset) is not int or not 0 <= offset < release.chunks.image_bytes:
            raise UsageError("offset is not inside the image", where=str(offset)[:20])
        part = await self._updates.images.read(release, offset, PART_BYTES_MAX)
        if part is None:
            raise UsageError(
                "the image is not uploaded yet", where=version, remedy="ask again later"
            )
        if offset == 0:
            self._updates.note(
                "download",
                site=device.site,
                device=device.device,
                release=release.digest.hex(),
                text=f"asked for {version}",
            )
        more = offset + len(part) < release.chunks.image_bytes
        said = {"offset": offset, "data": part, "more": more, **_describe(release)}
        return said | ({"signature": self._signature(release)} if offset == 0 else {})

    def _signature(self, release: Release) -> str:
        """Return the signed manifest (a SUIT envelope) in Base64."""
        found = self._updates.sites.find(release.digest)
        site = found[0] if found else ""
        return base64.b64encode(
            self._updates.sites.kept(site).manifests[release.digest][1]
        ).decode()

    # releases

    async def _releases(self, _asked: calls.Asked, _data: Table) -> object:
        return {"releases": describe_releases(self._updates.sites)}

    async def _revoke_release(self, asked: calls.Asked, data: Table) -> object:
        digest, updates = _digest(data), self._updates
        wanted = data.get("site")
        sites = [site for site in updates.sites if wanted in {None, site}]
        done = [site for site in sites if digest in updates.sites.documents(site).releases]
        if not done:
            raise UsageError("no site has such a release", where=digest.hex())
        for site in done:
            updates.say(updates.sites.revoke(site, digest, updates.now_s))
            updates.changed(site)
            updates.note("revoked", site=site, release=digest.hex(), text=f"by {asked.caller}")
        return {"revoked": digest.hex(), "sites": done}

    async def _firmware_status(self, _asked: calls.Asked, data: Table) -> object:
        if "image" in data:
            return await self._updates.images.status(_text(data, "image"))
        release = _digest(data)
        found = self._updates.sites.find(release)
        if found is None:
            refused = self._updates.why_refused(release)
            nothing = {"chunks": 0, "chunks_done": 0, "missing": []}
            return {"known": False, "complete": False, "refused": refused, **nothing}
        return await self._updates.images.status(found[1].image)

    async def _audit(self, _asked: calls.Asked, data: Table) -> object:
        limit = data.get("limit", 100)
        if type(limit) is not int or not 0 < limit <= AUDIT_MAX:
            raise UsageError(f"limit is not 1 to {AUDIT_MAX}", where=str(limit)[:20])
        rows = await self._updates.registry.audit(limit)
        return {"audit": [asdict(row) | {"at": format_us(row.at_us)} for row in rows]}

    # campaigns

    async def _create(self, asked: calls.Asked, data: Table) -> object:
        plan, updates = campaign.read_plan(dict(data)), self._updates
        if plan.name in updates.campaigns:
            raise UsageError("there is a campaign of this name", where=plan.name)
        if len(updates.campaigns) >= CAMPAIGNS_MAX:
            raise UsageError(f"there are {CAMPAIGNS_MAX} campaigns", where=plan.name)
        digest = bytes.fromhex(plan.release)
        found = updates.sites.find(digest)
        if found is None:
            raise UsageError(
                "no such release is registered",
                where=plan.release,
                remedy="publish its manifest first: plantroom ota publish",
            )
        kind = updates.sites.class_name(found[0], digest)
        sites = {
            one.site
            for one in updates.devices.values()
            if one.kind == kind and plan.selector.takes(one.site, one.device)
        } | {found[0]}
        for site in sorted(sites):
            updates.say(updates.sites.bring(digest, site, updates.now_s))
            updates.changed(site)
        made = Campaign(plan=plan, begun_us=updates.clock.wall_us())
        updates.campaigns[plan.name] = made
        updates.enlist(made)
        updates.touch(made)
        updates.note("campaign", release=plan.release, text=f"{plan.name}: begun by {asked.caller}")
        return describe(made)

    async def _list(self, _asked: calls.Asked, _data: Table) -> object:
        return {"campaigns": [describe(one) for one in self._updates.campaigns.values()]}

    async def _show(self, _asked: calls.Asked, data: Table) -> object:
        return describe(self._campaign(data), members_max=MEMBERS_MAX)

    async def _pause(self, asked: calls.Asked, data: Table) -> object:
        made = self._campaign(data)
        campaign_rules.pause(made, f"by {asked.caller}")
        return self._ordered(made, asked)

    async def _resume(self, asked: calls.Asked, data: Table) -> object:
        made = self._campaign(data)
        campaign_rules.resume(made)
        return self._ordered(made, asked)

    async def _abort(self, asked: calls.Asked, data: Table) -> object:
        made = self._campaign(data)
        told = campaign_rules.abort(made, f"by {asked.caller}")
        self._updates.say(self._updates.tell(made, told))
        return self._ordered(made, asked)

    def _campaign(self, data: Table) -> Campaign:
        name = _text(data, "name")
        if name not in self._updates.campaigns:
            raise UsageError("there is no campaign of this name", where=name)
        return self._updates.campaigns[name]

    def _ordered(self, made: Campaign, asked: calls.Asked) -> object:
        self._updates.touch(made)
        what = asked.capability.removeprefix("campaign_")
        text = f"{made.plan.name}: {what} by {asked.caller}, {made.standing}"
        self._updates.note("campaign", release=made.plan.release, text=text)
        return describe(made)


def describe(made: Campaign, *, members_max: int = 0) -> dict[str, object]:
    """Say how a campaign stands, as pages and commands show it."""
    states: dict[str, int] = {}
    for member in made.members.values():
        states[member.state] = states.get(member.state, 0) + 1
    groups = []
    for number, group in enumerate(made.plan.groups):
        counted = campaign_rules.tally(made, number)
        groups.append(asdict(group) | asdict(counted) | {"failed": counted.failed})
    said: dict[str, object] = {
        "name": made.plan.name,
        "release": made.plan.release,
        "standing": made.standing,
        "why": made.why,
        "group": made.group + 1,
        "groups": groups,
        "devices": len(made.members),
        "states": states,
        "begun": format_us(made.begun_us),
    }
    if members_max:
        members = [*made.members.values()][:members_max]
        said["members"] = [asdict(one) | {"group": one.group + 1} for one in members]
    return said


async def shown(updates: Updates) -> dict[str, object]:
    """Give what the page of updates shows."""
    newest = sorted(updates.devices.values(), key=lambda one: -one.at_us)
    rows = await updates.registry.audit(SHOWN_AUDIT)
    return {
        "campaigns": [
            describe(one, members_max=SHOWN_MEMBERS)
            for one in [*updates.campaigns.values()][-SHOWN_CAMPAIGNS:]
        ],
        "releases": describe_releases(updates.sites),
        "devices": [
            asdict(one) | {"at": format_us(one.at_us) if one.at_us else ""}
            for one in newest[:SHOWN_MEMBERS]
        ],
        "devices_total": len(newest),
        "audit": [asdict(row) | {"at": format_us(row.at_us)} for row in rows],
    }


def describe_releases(sites: Sites) -> list[dict[str, object]]:
    """Say what releases there are at every site, and which of them are current."""
    rows = []
    for site in sites:
        documents = sites.documents(site)
        revoked = documents.head.revoked if documents.head else frozenset()
        for release in documents.releases.values():
            pin = documents.head.classes.get(release.class_id) if documents.head else None
            is_current = pin is not None and pin.digest == release.digest
            rows.append(
                {
                    "site": site,
                    "class": sites.class_name(site, release.digest),
                    **_describe(release),
                    "current": is_current,
                    "rollout": pin.rollout if pin and is_current else None,
                    "revoked": release.digest in revoked,
                }
            )
    return rows


def _describe(release: Release) -> dict[str, object]:
    return {
        "release": release.digest.hex(),
        "sequence": release.sequence,
        "version": release.version,
        "size": release.chunks.image_bytes,
        "image": release.image,
        "release_notes": release.notes,
    }


def version_key(text: str) -> tuple[int, ...]:
    """Return what orders versions: their numbers.

    Raises:
        UsageError: when it is not numbers and dots.
    """
    parts = text.removeprefix("v").split(".")
    if len(text) > 80 or not all(part.isdecimal() for part in parts):
        raise UsageError("a version is numbers and dots, as 1.4.0", where=text[:40])
    numbers = [int(part) for part in parts]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _text(data: Table, name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 500:
        raise UsageError(f"{name} is missing, or not text", where=name)
    return value


def _digest(data: Table) -> bytes:
    text = _text(data, "release")
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise UsageError("release is the manifest's digest, 64 hex digits", where=text[:80])
    return digest
