import asyncio

from tests.broker.harness import Rules, running, until


def test_change_that_has_to_be_waited_for_is_waited_for() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            raw = await live.client("c", version=5)
            rules.slow = True
            rules.release.clear()
            rules.change(lambda question: question.action == "connect")
            assert await raw.silent(), "not closed before it is decided"
            rules.release.set()
            assert (await raw.frame())[0] == 0xE0

    asyncio.run(scenario())


def test_sessions_without_a_connection_are_left_alone() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            raw = await live.client("c", clean=False)
            await raw.subscribe(("a", 1))
            raw.cut()
            await until(lambda: not live.broker.sessions()[0].connected)
            rules.change(lambda _question: True)
            await until(lambda: live.broker._recheck.rounds)
            assert live.broker.sessions()[0].subscriptions == ("a",)

    asyncio.run(scenario())
