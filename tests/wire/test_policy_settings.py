import pytest

from plantroom.wire.errors import ConfigError
from plantroom.wire.policy_settings import PolicySection
from plantroom.wire.settings import load, section


def test_by_default_this_process_decides_by_the_bundle_that_ships() -> None:
    made = PolicySection()
    assert (made.provider, made.bundle, made.endpoint) == ("embedded", "", "")


def test_no_decision_may_be_waited_for_longer_than_a_quarter_of_a_second() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings:
        policy: PolicySection = section(PolicySection)

    environ = {"PLANTROOM_POLICY_TIMEOUT_S": "0.3"}
    with pytest.raises(ConfigError, match=r"from 0\.01 to 0\.25"):
        load(Settings, None, environ)
