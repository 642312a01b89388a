"""How often one address may ask: a token bucket each, for a bounded number of addresses."""

from collections import OrderedDict

ADDRESSES_MAX = 10_000


class AddressRate:
    """`burst` at once and `per_s` in the long run; the address that has asked least lately goes."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now_s: float) -> bool:
        """Say whether this address may ask now."""
        left, at_s = self._buckets.pop(address, (self._burst, now_s))
        left = min(self._burst, left + max(0.0, now_s - at_s) * self._per_s)
        allowed = left >= 1
        self._buckets[address] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return allowed
