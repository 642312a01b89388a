from dataclasses import dataclass, field

from plantroom.gateway.comparing import QUIET_US, Comparing
from plantroom.gateway.welcomed import Compared

KEY = ("spiffe://building-1.smart.local/agent/hvac-001", 7)


@dataclass
class Heard:
    """Alarms as they come and go, and a clock that stands."""

    said: list[tuple[str, ...]] = field(default_factory=list)
    now_us: int = 0

    def alarm(self, rule: str, device: str, text: str, *, cause: str = "") -> None:
        self.said.append(("raised", rule, device, cause, text))

    def over(self, rule: str, device: str, cause: str, text: str) -> None:
        assert text
        self.said.append(("over", rule, device, cause))

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


def test_books_that_disagree_are_counted_until_they_agree() -> None:
    heard = Heard()
    comparing = Comparing(heard, heard)
    assert comparing.heard(Compared("same", {KEY: "digest of segment 0"}, {})) == 1
    assert comparing.heard(Compared("same", {KEY: ""}, {})) == 0
    assert [one[:4] for one in heard.said] == [
        ("raised", "ledger-imbalance", KEY[0], "7"),
        ("over", "ledger-imbalance", KEY[0], "7"),
    ]


def test_what_this_disk_has_no_record_of_is_an_alarm_for_a_while() -> None:
    heard = Heard()
    comparing = Comparing(heard, heard)
    comparing.heard(Compared("same", {}, {KEY: 20, ("x", 1): 1}))
    heard.now_us += QUIET_US - 1
    comparing.heard(Compared("same", {}, {}))
    ((*what, text),) = heard.said
    assert what == ["raised", "rolled-back", "gateway", ""]
    assert "20 readings" in text
    assert "1 more" in text
    heard.now_us += 1
    comparing.heard(Compared("same", {}, {}))
    assert heard.said[1:] == [("over", "rolled-back", "gateway", "")]
