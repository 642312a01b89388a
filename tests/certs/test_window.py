"""Times of a chain by our own clock."""

import datetime as dt

import pytest
from cryptography import x509

from plantroom.certs import certificates
from plantroom.certs.window import LATE_S_MAX, SKEW_S, check_times
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

NOW_S = 1_800_000_000
ROOT_KEY = certificates.new_key()


def chain() -> list[x509.Certificate]:
    root = certificates.self_signed("a.b", ROOT_KEY, now_s=NOW_S)
    order = certificates.Order(
        spiffe_id=SpiffeId("a.b", "c"),
        public_key=certificates.new_key().public_key(),
        ttl_s=3600,
    )
    leaf = certificates.svid(order, issuer=root, key=ROOT_KEY, now_s=NOW_S)
    assert leaf.not_valid_before_utc == dt.datetime.fromtimestamp(NOW_S - 60, dt.UTC)
    return [leaf, root]


@pytest.mark.parametrize(
    ("now_s", "late_s"),
    [
        (NOW_S, 0),
        (NOW_S - 60 - SKEW_S, 0),
        (NOW_S + 3600, 0),
        (NOW_S + 3601, 1),
        (NOW_S + 3600 + LATE_S_MAX, LATE_S_MAX),
    ],
)
def test_within_its_times_or_a_while_after(now_s: int, late_s: int) -> None:
    assert check_times(chain(), now_s=now_s, late_s_max=LATE_S_MAX) == late_s


@pytest.mark.parametrize(
    ("now_s", "late_s_max", "reason"),
    [
        (NOW_S - 60 - SKEW_S - LATE_S_MAX - 1, LATE_S_MAX, "not-yet-valid"),
        (NOW_S - 60 - SKEW_S - 1, 0, "not-yet-valid"),
        (NOW_S + 3601 + LATE_S_MAX, LATE_S_MAX, "expired-too-long"),
        (NOW_S + 3601, 0, "expired"),
    ],
)
def test_outside_its_times_with_the_reason(now_s: int, late_s_max: int, reason: str) -> None:
    with pytest.raises(IdentityError) as caught:
        check_times(chain(), now_s=now_s, late_s_max=late_s_max)
    assert caught.value.reason == reason


def test_one_that_was_signed_by_a_clock_that_was_ahead_begins_later() -> None:
    ahead_s = 26 * 3600
    root = certificates.self_signed("a.b", ROOT_KEY, now_s=NOW_S - ahead_s)
    parts = [chain()[0], root]
    early_s = check_times(parts, now_s=NOW_S - ahead_s, late_s_max=LATE_S_MAX)
    assert early_s == -(ahead_s - 60)
    with pytest.raises(IdentityError) as caught:  # a root gets no grace
        check_times(chain(), now_s=NOW_S - ahead_s, late_s_max=LATE_S_MAX)
    assert caught.value.reason == "not-yet-valid"


def test_a_root_that_has_expired_gets_no_grace() -> None:
    old_s = NOW_S - certificates.ROOT_TTL_S - 100
    parts = [chain()[0], certificates.self_signed("a.b", ROOT_KEY, now_s=old_s)]
    with pytest.raises(IdentityError) as caught:
        check_times(parts, now_s=NOW_S, late_s_max=LATE_S_MAX)
    assert caught.value.reason == "expired"
