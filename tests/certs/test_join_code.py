import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import join_code
from plantroom.certs.join_code import JoinCode
from plantroom.wire.errors import PlantroomError, UsageError
from plantroom.wire.spiffe import SpiffeId

GATEWAY = SpiffeId("building-1.smart.local", "agent/gateway")
SENSOR = SpiffeId("building-1.smart.local", "agent/hvac-001")
codes = st.builds(
    JoinCode,
    token=st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True),
    root_sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    address=st.sampled_from(["10.0.0.1:8444", "gw.local:8444", "[fe80::1]:8444"]),
    server=st.just(GATEWAY),
    spiffe_id=st.just(SENSOR),
)


def made(address: str) -> JoinCode:
    return JoinCode(
        token="t" * 43,
        root_sha256="0" * 64,
        address=address,
        server=GATEWAY,
        spiffe_id=SENSOR,
    )


@given(codes)
def test_build_and_parse_are_inverses(code: JoinCode) -> None:
    text = join_code.build(code)
    assert join_code.parse(text + "\n") == code


@given(st.text(max_size=80), st.booleans())
def test_any_other_text_is_refused(text: str, prefixed: bool) -> None:  # noqa: FBT001 -- drawn
    with pytest.raises(UsageError, match="not a join code"):
        join_code.parse(join_code.PREFIX + text if prefixed else text)


@pytest.mark.parametrize(
    ("old", "new"), [("token=", "token=&"), ("bundle=", "bundle=z"), ("id=", "no="), ("//", "/")]
)
def test_a_code_with_a_fault_is_refused(old: str, new: str) -> None:
    code = made("h:1")
    with pytest.raises(PlantroomError):
        join_code.parse(join_code.build(code).replace(old, new))


def test_a_script_reads_its_parts() -> None:
    code = made("[::1]:8444")
    done = subprocess.run(
        [sys.executable, "-m", "plantroom.certs.join_code", join_code.build(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"token={'t' * 43}",
        f"bundle={'0' * 64}",
        "host=[::1]",
        "port=8444",
        f"server={GATEWAY}",
        f"id={SENSOR}",
    ]
