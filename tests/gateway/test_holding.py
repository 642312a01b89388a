from plantroom.gateway.holding import Holding


def test_publishes_are_refused_while_there_is_any_reason() -> None:
    codes: list[int | None] = []
    holding = Holding(codes.append)
    holding.set("full", holds=False)
    holding.set("full", holds=True)
    holding.set("full", holds=True)
    holding.set("disk", holds=True)
    holding.set("full", holds=False)
    assert codes == [0x97]
    assert holding.reasons == {"disk"}
    holding.set("disk", holds=False)
    assert codes == [0x97, None]
