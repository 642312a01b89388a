"""Whether a certificate chain is within its times, by our own clock.

The enrolment port tells OpenSSL not to look at times, so that an SVID that expired while its
device was off can still renew, and one that was signed while clocks were ahead; then this is the
only check of times there is.
"""

from collections.abc import Sequence

from cryptography import x509

from plantroom.wire.errors import IdentityError

LATE_S_MAX = 30 * 86_400  # and as much too early
SKEW_S = 60  # how far a peer's clock may be ahead of ours


def check_times(chain: Sequence[x509.Certificate], *, now_s: float, late_s_max: int) -> float:
    """Return for how many seconds the leaf has been expired, leaf first; 0: it is valid.

    Below 0: in how many seconds it begins. Whoever signed it has to be within its times.

    Raises:
        IdentityError: with reason `expired`, `expired-too-long` or `not-yet-valid`.
    """
    for number, certificate in enumerate(chain):
        grace_s = 0 if number else late_s_max
        if certificate.not_valid_before_utc.timestamp() > now_s + SKEW_S + grace_s:
            raise IdentityError("certificate is not valid yet", reason="not-yet-valid")
    for signer in chain[1:]:
        if signer.not_valid_after_utc.timestamp() < now_s:
            raise IdentityError("a certificate of the chain has expired", reason="expired")
    late_s = now_s - chain[0].not_valid_after_utc.timestamp()
    if late_s <= 0:
        early_s = chain[0].not_valid_before_utc.timestamp() - now_s
        return -early_s if early_s > SKEW_S else 0.0
    if late_s > late_s_max:
        reason = "expired-too-long" if late_s_max else "expired"
        raise IdentityError(f"SVID expired {late_s:.0f} s ago", reason=reason)
    return late_s
