from dataclasses import replace

from plantroom.wire.quarantined import Quarantined, why_not

ITEM = Quarantined(
    name="1",
    device="spiffe://x.y/agent/a",
    epoch=1,
    first=0,
    last=0,
    reason="undecodable",
    text="",
    hash=b"h",
    at_us=0,
    size=3,
)


def test_bytes_that_are_there_can_be_replayed_and_others_say_why_not() -> None:
    assert why_not(ITEM) == ""
    assert "no more room" in why_not(replace(ITEM, size=None))
    assert "replayed already" in why_not(replace(ITEM, size=None, outcome="replayed"))
