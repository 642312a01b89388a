"""The agent, put together: driver ▶ sampler ▶ outbox ▶ dispatch ▶ uplink ══mTLS══▶ gateway."""

import fcntl
import os
import random
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from plantroom.certs.time_floor import TimeFloor
from plantroom.device import capabilities, catalog, contexts, updater_setup
from plantroom.device.capabilities import Calls, Capability, Permit
from plantroom.device.dispatch import Dispatch, Rules
from plantroom.device.health import Health, Parts
from plantroom.device.identity import IdentityKeeper
from plantroom.device.journal import Journal
from plantroom.device.outbox import MIGRATIONS, Outbox
from plantroom.device.policy import CallPolicy, ask_gateway
from plantroom.device.ring import Limits
from plantroom.device.salvage import bring_back
from plantroom.device.sampler import Sampler
from plantroom.device.session import Target
from plantroom.device.settings import DeviceSettings, host_port
from plantroom.device.stages import Stages
from plantroom.device.updater import Updater
from plantroom.device.uplink import Manners, Uplink
from plantroom.wire.clock import Clock, SystemClock, boot_name, is_plausible
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import StorageCorruptError, StorageError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.sqlite import set_aside

JOIN_S = 15.0


def main(settings: DeviceSettings) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        PlantroomError: when it cannot start or cannot go on.
    """
    journal = Journal(
        level=settings.log.level, target=settings.log.target, name=settings.agent.name
    )
    clock = SystemClock()
    with ExitStack() as stack:
        stack.enter_context(_locked(settings.state))
        driver = catalog.driver(settings, clock, _report)
        floor = TimeFloor(clock)
        source = catalog.identity_source(settings, floor)
        outbox = _outbox(settings, clock, journal)
        stack.callback(outbox.close)
        sampler = Sampler(driver, outbox, say=journal.warning)
        sampler.start()
        identity = IdentityKeeper(
            source,
            clock=clock,
            refresh_s=settings.identity.bundle_refresh_s,
            say=journal.warning,
            inform=journal.info,
        )
        dispatch = Dispatch(outbox, _rules(settings), uniform=random.uniform)
        stages = Stages()
        updater = _updater(settings, clock, journal, stages, stack)
        context = contexts.to_gateway(
            SpiffeId.parse(settings.identity.gateway_id),
            floor,
            lightweight=settings.identity.lightweight,
        )
        uplink = _uplink(
            settings, outbox, sampler, dispatch, identity, context, clock, journal, updater
        )
        outbox.watch(uplink.wake)
        identity.watch(uplink.wake)
        stages.also_stop(sampler.stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stages.stop())
        if settings.server.enabled:
            parts = Parts(
                outbox=outbox,
                sampler=sampler,
                dispatch=dispatch,
                uplink=uplink,
                identity=identity,
            )
            _serve(settings, Health(parts), identity, stages, journal)
        stages.start("identity", identity.run, identity.stop)
        stages.start("uplink", uplink.run, uplink.stop)
        try:
            sampler.run()
        finally:
            stages.stop()
            late = stages.join(JOIN_S)
            if late:
                journal.warning(f"{', '.join(late)} did not end in time")


def _updater(
    settings: DeviceSettings, clock: Clock, journal: Journal, stages: Stages, stack: ExitStack
) -> Updater | None:
    """Boot the firmware that is to run; a new one begins with a restart of this process."""

    def restart(why: str) -> None:
        journal.warning(f"restarting: {why}")
        stages.stop()

    updater = updater_setup.set_up(
        settings, catalog.installer, clock=clock, journal=journal, restart=restart
    )
    if updater is not None:
        stack.callback(updater.stop)
    return updater


def _report(text: str) -> None:
    """Name a broken row or cell on stderr, whatever the log's level and target are."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _locked(state: Path) -> IO[str]:
    """Take the state folder for this process alone; the lock goes with the process."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (state / "agent.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot use the state folder: {error.strerror}",
            where=str(state),
            remedy="check its owner and mount, or choose another agent.state",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read(32).strip() or "another process"
        file.close()
        raise StorageError(
            f"the state folder is in use by {holder}",
            where=str(state),
            remedy="stop that agent, or give this one an agent.state of its own",
        ) from None
    file.truncate(0)
    file.write(f"pid {os.getpid()}")
    file.flush()
    return file


def _outbox(settings: DeviceSettings, clock: Clock, journal: Journal) -> Outbox:
    """Open the outbox; a damaged file is set aside, said so, and service goes on."""
    path = settings.state / "outbox.db"
    limits = Limits(
        readings_max=settings.buffer.readings_max,
        bytes_max=settings.buffer.bytes_max,
        age_s_max=settings.buffer.age_s_max,
    )

    def opened() -> Outbox:
        return Outbox.open(
            path,
            device=str(settings.spiffe_id),
            limits=limits,
            clock=clock,
            randbits=secrets.randbits,
            boot=boot_name(),
            say=journal.error,
        )

    try:
        return opened()
    except StorageCorruptError as error:
        aside = set_aside(path, str(clock.wall_us() // 1_000_000))
        back = bring_back(aside, path, MIGRATIONS)
        journal.error(f"{error}; it is now {aside.name}, a new one has {back} readings of it")
        return opened()


def _rules(settings: DeviceSettings) -> Rules:
    uplink = settings.uplink
    return Rules(
        batch_readings=uplink.batch_readings,
        batch_bytes_max=uplink.batch_bytes_max,
        window=uplink.window,
        linger_s=uplink.linger_s,
        parked_retry_s=uplink.parked_retry_s,
    )


def _uplink(  # noqa: PLR0913, PLR0917 -- this is where everything meets
    settings: DeviceSettings,
    outbox: Outbox,
    sampler: Sampler,
    dispatch: Dispatch,
    identity: IdentityKeeper,
    context: Callable[[Identity], ssl.SSLContext],
    clock: Clock,
    journal: Journal,
    updater: Updater | None,
) -> Uplink:
    host, port = host_port(settings.uplink.address, "uplink.address")
    calls = Calls(
        _capabilities(settings, outbox, sampler, dispatch),
        site=settings.site,
        queue_max=settings.calls.queue_max,
        keys_max=settings.calls.keys_max,
        permit=_permit(settings, identity, context),
    )
    return Uplink(
        Target(
            host=host,
            port=port,
            client_id=settings.agent.name,
            protocol=settings.uplink.protocol,
            keepalive_s=settings.uplink.keepalive_s,
            timeout_s=settings.uplink.timeout_s,
        ),
        Manners(
            site=settings.site,
            device=settings.agent.name,
            puback_timeout_s=settings.uplink.puback_timeout_s,
            reconnect_s_max=settings.uplink.reconnect_s_max,
            presence_s=settings.uplink.presence_s,
            reuse=settings.tls.connection_reuse,
        ),
        identity=identity,
        context=context,
        dispatch=dispatch,
        calls=calls,
        presence=_presence(settings, outbox, sampler, clock, updater),
        uniform=random.uniform,
        journal=journal,
        updates=updater,
    )


def _capabilities(
    settings: DeviceSettings, outbox: Outbox, sampler: Sampler, dispatch: Dispatch
) -> dict[str, Capability]:
    offered: dict[str, Capability] = {
        "resend": capabilities.resend(outbox.resend),  # these two are the delivery's own:
        "renew_epoch": capabilities.renew_epoch(outbox.renew_epoch),  # never turned off
    }
    if settings.capabilities.read_sensors:
        offered["read_sensors"] = capabilities.read_sensors(sampler.read_now)
    if settings.capabilities.sync_buffered:
        offered["sync_buffered"] = capabilities.sync_buffered(
            outbox.waiting,
            lambda: outbox.counts.waiting,
            lambda: dispatch.hurry(time.monotonic()),  # calls are answered on its own thread
        )
    return offered


def _permit(
    settings: DeviceSettings,
    identity: IdentityKeeper,
    context: Callable[[Identity], ssl.SSLContext],
) -> Permit:
    """Make this device's own check of its callers; without an endpoint the broker's counts."""
    policy = settings.policy
    if not policy.endpoint:
        return lambda _topic, _caller: ""
    ask = ask_gateway(
        host_port(policy.endpoint, "policy.endpoint"),
        lambda: identity.current,
        context,
        timeout_s=policy.timeout_s,
    )
    return CallPolicy(
        ask,
        trust_domain=settings.agent.trust_domain,
        cloud_trust_domain=policy.cloud_trust_domain,
        ttl_s_max=policy.cache_ttl_s,
        clock_s=time.monotonic,
    ).refusal


def _presence(
    settings: DeviceSettings,
    outbox: Outbox,
    sampler: Sampler,
    clock: Clock,
    updater: Updater | None,
) -> Callable[[bool], Presence]:
    """Make the message that says who is there, how far each epoch goes, and what was replayed."""
    agent = settings.agent
    about = {
        "label": agent.device_label,
        "kind": agent.kind,
        "place": agent.place,
        "description": agent.description,
        "capabilities": ",".join(
            name
            for name in ("read_sensors", "sync_buffered")
            if getattr(settings.capabilities, name)
        ),
        "period_s": f"{settings.sampling.period_s / settings.sampling.speed:g}",
    }

    def presence(online: bool) -> Presence:  # noqa: FBT001 -- the one thing it says
        heads, wall_us = outbox.heads(), clock.wall_us()
        return Presence(
            online=online,
            epoch=outbox.epoch,
            heads=heads,
            at_us=wall_us if is_plausible(wall_us) else None,
            info=about | _firmware(updater) | _progress(sampler, outbox, heads),
        )

    return presence


def _firmware(updater: Updater | None) -> dict[str, str]:
    """Name what runs; on trial, too."""
    return {} if updater is None else {"firmware": updater.running.version}


def _progress(sampler: Sampler, outbox: Outbox, heads: dict[int, int]) -> dict[str, str]:
    """Say how far a replay is; `done` only once every row has been acknowledged."""
    info = sampler.info()
    if "replay" not in info:
        return {}
    if not sampler.ended or outbox.counts.waiting or outbox.counts.notes:
        return {"replay": "running"}
    last = max(heads, default=None)
    return info | ({} if last is None else {"last": f"{last}/{heads[last]}"})


def _serve(
    settings: DeviceSettings,
    health: Health,
    identity: IdentityKeeper,
    stages: Stages,
    journal: Journal,
) -> None:
    from plantroom.device.server import HealthServer  # noqa: PLC0415 -- off in most agents

    server = HealthServer(
        (settings.server.host, settings.server.port),
        health,
        show_metrics=settings.metrics.enabled,
        connections_max=settings.server.connections_max,
        timeout_s=settings.server.request_timeout_s,
        identity=lambda: identity.current,
    )
    journal.info(f"http on port {server.port}")
    stages.start("server", server.serve_forever, server.stop_soon)
