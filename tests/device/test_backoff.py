from plantroom.device.backoff import Backoff


def test_limit_doubles_up_to_the_longest_wait_and_starts_anew() -> None:
    spans: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        spans.append((low, high))
        return high

    backoff = Backoff(first_s=1, max_s=10, uniform=draw)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert all(low == high / 10 for low, high in spans)  # jitter over the whole span
    backoff.reset()
    assert backoff.next_s() == 1


def test_many_failures_do_not_overflow() -> None:
    backoff = Backoff(first_s=1, max_s=30, uniform=lambda _low, high: high)
    assert [backoff.next_s() for _ in range(5000)][-1] == 30
