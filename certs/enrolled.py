"""An identity that was enrolled for, kept in a folder: the device's, and a gateway's in the cloud.

Files: `svid.pem`, `key.pem` (0600), `bundles.json`, and before the first enrolment `join-token`
(a token or a join code); `bundle-sha256` where the bundle itself was not given; `last-error` while
renewal fails.
While a request is under way its key and CSR wait in `key.new.pem` and `csr.new.pem`: asked again
with the same key, the server gives the answer that was lost; and after a crash between the two
renames the key that belongs to `svid.pem` is found. Blocking and light: no asyncio, no
`cryptography`.
"""

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from plantroom.certs import atomic, bundle, enrolment_client, key_helper, own_svid
from plantroom.certs.attestor import Attestor
from plantroom.certs.attestor_token import JoinToken, fingerprint
from plantroom.certs.enrolment_client import Answer, Server
from plantroom.certs.key_helper import KeyAndRequest
from plantroom.certs.renewal import Schedule
from plantroom.certs.time_floor import DOUBT_S, TimeFloor
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import (
    IdentityError,
    PlantroomError,
    RefusedError,
    StorageError,
    UnreachableError,
)
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

SVID_FILE, KEY_FILE, BUNDLES_FILE = "svid.pem", "key.pem", "bundles.json"
TOKEN_FILE, NEW_KEY_FILE, NEW_CSR_FILE = "join-token", "key.new.pem", "csr.new.pem"
PIN_FILE, ERROR_FILE = "bundle-sha256", "last-error"
_FILE_BYTES_MAX = 1024 * 1024


def write_bundles(folder: Path, bundles: Mapping[str, TrustBundle]) -> None:
    """Give a folder the bundles that it trusts: what pins the first enrolment."""
    atomic.make_private_folder(folder)
    atomic.write(folder / BUNDLES_FILE, bundle.all_to_json(bundles), mode=atomic.PUBLIC)


def write_token(folder: Path, token: str) -> None:
    """Give a folder its join token."""
    atomic.make_private_folder(folder)
    atomic.write(folder / TOKEN_FILE, token.encode() + b"\n")


class EnrolledSource:
    """The identity `spiffe_id` in `folder`, renewed at `server` (host, port and SPIFFE ID).

    `bundle_file` may lie elsewhere than in the folder; `attestor` proves who this is, by default
    with the folder's join token. Of a `clock` that is behind what its SVID proves nothing is taken.

    Raises:
        PlantroomError: when what is in the folder cannot be used.
    """

    def __init__(  # noqa: PLR0913 -- places and seams are given by keyword
        self,
        folder: Path,
        *,
        spiffe_id: SpiffeId,
        server: Server,
        attestor: Attestor | None = None,
        bundle_file: Path | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        atomic.make_private_folder(folder)
        self._folder = folder
        self._spiffe_id = spiffe_id
        self._attestor = attestor or JoinToken(folder / TOKEN_FILE, spiffe_id)
        clock = clock or SystemClock()
        self.floor = clock if isinstance(clock, TimeFloor) else TimeFloor(clock)
        self._server = replace(server, check_times=self.floor.check_peer)
        self._bundles = self._load_bundles(bundle_file)
        self._svid = self._load_svid()
        self._revision = 1
        self.schedule = Schedule(chance)
        self._doubt_s = 0.0  # of the clock, that the issuer has not shared when it was last asked
        if self._svid is not None:
            self.floor.learn(self._svid.not_before_s)
            if not self.floor.behind_s:  # else: it may have expired, only the issuer knows
                self.schedule.renewed(self._svid.not_before_s, self._svid.not_after_s)

    def current(self) -> Identity:
        """Return the newest identity; it may have expired while this machine was off.

        Raises:
            IdentityError: with reason `no-svid` before the first enrolment.
        """
        if self._svid is None:
            raise IdentityError(
                "not enrolled yet", reason="no-svid", where=str(self._folder / SVID_FILE)
            )
        return Identity(svid=self._svid, bundles=dict(self._bundles), revision=self._revision)

    def due(self, now_s: float) -> bool:
        """Say whether to call `renew` now: past half life, or not enrolled, or time to retry."""
        return self.schedule.due(self._now_s(now_s))

    def wait_s(self, now_s: float) -> float:
        """Return how long until `renew` is due, if no clock is set meanwhile."""
        return self.schedule.due_s - self._now_s(now_s)

    def _now_s(self, now_s: float = 0.0) -> float:
        return self.floor.machine_s if self._in_doubt else max(now_s, self.floor.wall_us() / 1e6)

    @property
    def _in_doubt(self) -> bool:
        """Whether the clock was set back since the issuer was last asked, or has been before."""
        return self.floor.doubt_s > self._doubt_s + DOUBT_S

    def renew(self) -> Identity:
        """Enrol or renew, whichever is wanted, and return the new identity. Blocks.

        Raises:
            RefusedError: when the server says no, with its reason.
            UnreachableError: when it does not answer; `due` says when to try again.
            StorageError: when the new identity cannot be kept.
        """
        try:
            svid = self._asked()
        except PlantroomError as error:
            self.schedule.failed(self._now_s(), error)
            self._remember(str(error))
            raise
        self._svid = svid
        atomic.remove(self._folder / ERROR_FILE)
        self.floor.learn(svid.not_before_s)
        self._doubt_s = self.floor.doubt_s
        self._revision += 1
        self.schedule.renewed(svid.not_before_s, svid.not_after_s)
        return self.current()

    def fingerprint(self) -> str:
        """Return that of the key which waits to be enrolled, making it if there is none.

        Raises:
            StorageError: when it cannot be made or kept.
        """
        return fingerprint(self._pending().csr_pem)

    def _asked(self) -> Svid:
        try:
            return self._ask()
        except IdentityError as error:
            if error.reason != "expired" or not self._in_doubt:
                raise
        return self._ask_the_time()

    def _ask(self) -> Svid:
        pending = self._pending()
        trust = self._trust(pending)
        if self._svid is None or self._attestor.every_time:
            return self._enrol(trust, pending)
        try:
            answer = enrolment_client.renew(
                self._server, trust, svid=self._svid, csr_pem=pending.csr_pem
            )
        except (RefusedError, UnreachableError):  # an SVID that does not verify is just cut off
            if not self._attestor.ready():
                raise
            return self._enrol(trust, pending)
        return self._keep(answer, pending)

    def _ask_the_time(self) -> Svid:
        """Ask a server that has expired by what is known, and is valid by this machine's clock.

        It may be one whose certificate was stolen long ago, so it gets nothing that is a secret (no
        join token), and is believed if its issuer signs a key that was made after the question.
        """
        for name in (NEW_KEY_FILE, NEW_CSR_FILE):
            atomic.remove(self._folder / name)
        pending = self._pending()
        trust = self._trust(pending)
        server = replace(self._server, check_times=self.floor.check_peer_by_machine)
        if self._attestor.every_time:
            answer = self._attestor.enrol(server, trust, pending)
        else:
            answer = enrolment_client.renew(
                server, trust, svid=self.current().svid, csr_pem=pending.csr_pem
            )
        from plantroom.certs import svid  # noqa: PLC0415 -- loads cryptography, once in years

        svid.check_chain(answer.chain_pem, trust.roots_der)
        given = self._keep(answer, pending)
        self.floor.take_back(given.not_before_s)
        return given

    def _enrol(self, trust: TrustBundle, pending: KeyAndRequest) -> Svid:
        svid = self._keep(self._attestor.enrol(self._server, trust, pending), pending)
        self._attestor.done()
        return svid

    def _trust(self, pending: KeyAndRequest) -> TrustBundle:
        """Return the bundle that pins the server; fetch it where only a root's hash was given."""
        trust_domain = self._server.spiffe_id.trust_domain
        if trust_domain in self._bundles:
            return self._bundles[trust_domain]
        pin = self._attestor.root_sha256() or (self._read(PIN_FILE) or b"").decode(
            "ascii", "replace"
        )
        if not pin.strip():
            raise IdentityError(
                f"no bundle for {trust_domain}, key {fingerprint(pending.csr_pem)} waits",
                reason="no-bundle",
                where=str(self._folder / BUNDLES_FILE),
                remedy="put what `plantroom identity bundle show` prints there, or its "
                f"--format sha256 into {PIN_FILE}",
            )
        fetched = enrolment_client.fetch_bundle(self._server, root_sha256=pin.strip())
        self._bundles[trust_domain] = fetched
        write_bundles(self._folder, self._bundles)
        return fetched

    def _keep(self, answer: Answer, pending: KeyAndRequest) -> Svid:
        svid = own_svid.read_svid(answer.chain_pem, pending.key_pem)
        if svid.spiffe_id != self._spiffe_id:
            raise IdentityError(
                f"issuer gave {svid.spiffe_id}, {self._spiffe_id} is configured", reason="wrong-id"
            )
        if not own_svid.key_belongs(svid):
            raise IdentityError("issuer signed another key", reason="bad-key")
        newer = {
            name: part
            for name, part in answer.bundles.items()
            if bundle.newer(self._bundles.get(name), part)
        }
        self._bundles |= newer
        write_bundles(self._folder, self._bundles)
        atomic.write(self._folder / SVID_FILE, svid.chain_pem, mode=atomic.PUBLIC)
        atomic.rename(self._folder / NEW_KEY_FILE, self._folder / KEY_FILE)
        atomic.remove(self._folder / NEW_CSR_FILE)
        return svid

    def _pending(self) -> KeyAndRequest:
        key, csr = self._read(NEW_KEY_FILE), self._read(NEW_CSR_FILE)
        if key and csr:
            return KeyAndRequest(key_pem=key, csr_pem=csr)
        made = key_helper.make(self._spiffe_id)
        atomic.write(self._folder / NEW_KEY_FILE, made.key_pem)
        atomic.write(self._folder / NEW_CSR_FILE, made.csr_pem)
        return made

    def _read(self, name: str) -> bytes | None:
        return atomic.read(self._folder / name, bytes_max=_FILE_BYTES_MAX)

    def _load_bundles(self, bundle_file: Path | None) -> dict[str, TrustBundle]:
        data = self._read(BUNDLES_FILE)
        if data is not None:
            try:  # ours, or what an operator has put there
                return bundle.from_file(self._server.spiffe_id.trust_domain, data)
            except IdentityError:
                self._set_aside(BUNDLES_FILE)
        if bundle_file is None:
            return {}
        given = atomic.read(bundle_file, bytes_max=_FILE_BYTES_MAX)
        if given is None:
            raise IdentityError(
                "bundle file is missing", reason="no-bundle", where=str(bundle_file)
            )
        return bundle.from_file(self._server.spiffe_id.trust_domain, given)

    def _load_svid(self) -> Svid | None:
        chain, key, new_key = (self._read(n) for n in (SVID_FILE, KEY_FILE, NEW_KEY_FILE))
        if chain is None:
            return None
        try:
            return self._own(chain, key, new_key)
        except IdentityError:
            self._set_aside(SVID_FILE)
            return None

    def _remember(self, text: str) -> None:
        """Keep why the last renewal failed, for `identity svid show`; once for the same reason."""
        data = text.encode() + b"\n"
        with contextlib.suppress(StorageError):  # the failure itself is what counts
            if self._read(ERROR_FILE) != data:
                atomic.write(self._folder / ERROR_FILE, data, mode=atomic.PUBLIC)

    def _set_aside(self, name: str) -> None:
        """Keep a damaged file for who wants to look; the agent goes on and says what is missing."""
        atomic.rename(self._folder / name, self._folder / f"{name}.damaged")

    def _own(self, chain: bytes, key: bytes | None, new_key: bytes | None) -> Svid | None:
        for name, candidate in ((KEY_FILE, key), (NEW_KEY_FILE, new_key)):
            if candidate is None:
                continue
            svid = own_svid.read_svid(chain, candidate)
            if not own_svid.key_belongs(svid):
                continue
            if name == NEW_KEY_FILE:  # killed between the two renames
                atomic.rename(self._folder / NEW_KEY_FILE, self._folder / KEY_FILE)
                atomic.remove(self._folder / NEW_CSR_FILE)
            return svid if svid.spiffe_id == self._spiffe_id else None
        return None
