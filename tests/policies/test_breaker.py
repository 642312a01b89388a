from plantroom.policies.breaker import Breaker


def opened() -> Breaker:
    breaker = Breaker(failures_max=3, first_s=1.0, longest_s=4.0)
    for _ in range(3):
        assert breaker.admits(0.0)
        breaker.failed(0.0)
    return breaker


def test_some_failures_in_a_row_open_it() -> None:
    breaker = opened()
    assert breaker.state == "open"
    assert not breaker.admits(0.999)
    assert breaker.openings == 1


def test_an_answer_in_between_forgives() -> None:
    breaker = Breaker(failures_max=2)
    for _ in range(10):
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.state == "closed"


def test_after_a_pause_one_trial_decides() -> None:
    breaker = opened()
    assert breaker.admits(1.0)
    assert not breaker.admits(1.0), "one trial, not two"
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.admits(1.0)


def test_every_failed_trial_doubles_the_pause_up_to_a_bound() -> None:
    breaker, now_s = opened(), 1.0
    for pause_s in (2.0, 4.0, 4.0):
        assert breaker.admits(now_s)
        breaker.failed(now_s)
        assert not breaker.admits(now_s + pause_s - 0.01)
        now_s += pause_s
    breaker.admits(now_s)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(now_s)
    assert breaker.admits(now_s + 1.0), "after an answer the pauses begin small again"


def test_a_trial_that_ends_without_a_word_does_not_block_for_ever() -> None:
    breaker = opened()
    assert breaker.admits(1.0)
    assert breaker.admits(2.0)


def test_late_failures_of_questions_asked_before_do_not_count_twice() -> None:
    breaker = opened()
    breaker.failed(0.5)
    assert breaker.openings == 1
    assert breaker.admits(1.0)
