"""What trust domains tell each other over the bridge: their bundles and lists of the revoked.

Each issuer publishes its own as retained messages, anew whenever they have changed. Of what others
tell, only what they may say is believed: a bundle whose sequence rises, a list whose sequence rises
and that a root of its issuer's bundle has signed. Everything else is refused and raises an alarm.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, NoReturn

from plantroom.certs import bundle, denylist
from plantroom.certs.authority import Authority
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.registry_trust import TrustStore
from plantroom.wire import topics
from plantroom.wire.errors import IdentityError, PlantroomError, TopicError
from plantroom.wire.link import Message
from plantroom.wire.topics import Topic

LOG = logging.getLogger("plantroom.certs.statements")
BUNDLE, DENYLIST = "bundle/{trust-domain}", "denylist/{issuer}"
WAITING_MAX = 1000
_FAILURE = 0x80

Say = Literal["all", "own"]  # whose IDs an issuer may revoke here: everybody's, or its own
Believes = Callable[[Topic, str], Say | None]
Alarm = Callable[[str, str, str], Awaitable[object]]  # site, rule, text


class Statements:
    """Publishes ours, believes theirs.

    `sites`: on whose topics ours are published. `believes` says for a topic and its publisher what
    they may say, None for nothing. `alarm` cries out for a site.
    """

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        authority: Authority,
        store: TrustStore,
        keeper: BundleKeeper,
        *,
        sites: Callable[[], Iterable[str]],
        publish: Callable[[Message], Awaitable[int]],
        believes: Believes,
        alarm: Alarm,
        period_s: float,
    ) -> None:
        self._authority = authority
        self._store = store
        self._keeper = keeper
        self._sites = sites
        self._publish = publish
        self._believes = believes
        self._alarm = alarm
        self._period_s = period_s
        self._heard: asyncio.Queue[tuple[Topic, bytes, Say]] = asyncio.Queue(WAITING_MAX)
        self._unproven: dict[str, tuple[Topic, bytes, Say]] = {}
        self._said: set[tuple[str, tuple[int, str], int]] = set()
        self._looked: tuple[object, ...] = ()
        self.adopted = 0
        self.refused = 0

    @staticmethod
    def filters(site: str) -> list[str]:
        """Return what has to be watched; `+` for every site."""
        return [topics.subscription(pattern, site) for pattern in (BUNDLE, DENYLIST)]

    def offer(self, message: Message, publisher: str) -> None:
        """Take a message as it passes the broker."""
        try:
            topic = topics.parse(message.topic)
        except TopicError:
            return
        say = self._believes(topic, publisher)
        if say is None or topic.names[0] == self._authority.trust_domain:
            return
        with contextlib.suppress(asyncio.QueueFull):  # it is told again at the next connect
            self._heard.put_nowait((topic, message.payload, say))

    async def run(self) -> NoReturn:
        """Tell and hear for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="certs.statements-hear")
            trouble = ""
            while True:
                try:
                    await self._tell()
                    trouble = ""
                except PlantroomError as error:
                    if str(error) != trouble:
                        LOG.error("not told to others: %s", error)  # noqa: TRY400 -- one line
                    trouble = str(error)
                await asyncio.sleep(self._period_s)

    async def _tell(self) -> None:
        """Look whether anything has changed, and publish it where that is not known yet."""
        self._authority.refresh()
        generation = self._authority.generation
        looked = (await asyncio.to_thread(self._store.counter), generation)
        if looked == self._looked:
            return
        self._keeper.refresh()
        own = await asyncio.to_thread(self._store.own_list, self._authority.trust_domain)
        wanted = {(site, generation, own.sequence) for site in self._sites()}
        if wanted - self._said:
            ours = bundle.to_json(self._authority.bundle())
            document = await asyncio.to_thread(denylist.signed, self._authority, own)
            for said in sorted(wanted - self._said):
                if not await self._told(said[0], ours, document):
                    return  # all that is missing is told with the next look
                self._said.add(said)
        self._said &= wanted
        self._looked = looked

    async def _told(self, site: str, ours: bytes, document: bytes) -> bool:
        """Publish for one site: the bundle first, because it is what proves the list."""
        name = self._authority.trust_domain
        codes = [
            await self._publish(
                Message(topic=topics.build(pattern, site, name), payload=payload, retain=True)
            )
            for pattern, payload in ((BUNDLE, ours), (DENYLIST, document))
        ]
        return max(codes) < _FAILURE

    async def _hear(self) -> NoReturn:
        while True:
            told = await self._heard.get()
            topic, payload, say = told
            try:
                if topic.pattern == BUNDLE:
                    await self._hear_bundle(topic, payload)
                else:
                    await self._hear_list(topic, payload, say)
            except PlantroomError as error:
                await self._refuse(topic, error)
                if isinstance(error, IdentityError) and error.reason == "denylist-signature":
                    self._unproven[topic.names[0]] = told  # its bundle may be on its way

    async def _hear_bundle(self, topic: Topic, payload: bytes) -> None:
        name = topic.names[0]
        if self._keeper.adopt(bundle.from_json(name, payload)):
            self.adopted += 1
            if name in self._unproven:
                topic, payload, say = self._unproven.pop(name)
                await self._hear_list(topic, payload, say)

    async def _hear_list(self, topic: Topic, payload: bytes, say: Say) -> None:
        name = topic.names[0]
        proof = self._keeper.all().get(name)
        if proof is None:
            raise IdentityError("its bundle is not known", reason="denylist-signature", where=name)
        listed = await asyncio.to_thread(denylist.verified, payload, proof)
        if await asyncio.to_thread(self._store.adopt_list, listed, own_only=say == "own"):
            self.adopted += 1
            LOG.info(
                "list of the revoked of %s is now sequence %d: %d IDs, %d serials",
                name,
                listed.sequence,
                len(listed.spiffe_ids),
                len(listed.serials),
            )

    async def _refuse(self, topic: Topic, error: PlantroomError) -> None:
        self.refused += 1
        rule = "bundle-refused" if topic.pattern == BUNDLE else "denylist-refused"
        LOG.error("refused %s: %s", topic, error)
        await self._alarm(topic.site, rule, str(error))
