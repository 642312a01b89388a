from tests.cli.conftest import Run


def test_where_nothing_runs_that_is_said(run: Run) -> None:
    ran = run("publish", "v1/building-1/policy", "--text", "x")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.count("\n") == 1
    assert "plantroom up" in ran.err


def test_a_payload_that_cannot_be_made_is_a_usage_error(run: Run) -> None:
    topic = "v1/building-1/policy"
    assert run("publish", topic, "--cbor", "{").code == 2
    assert run("publish", topic, "--file", "/nowhere/payload").code == 2
    assert run("publish", topic, "--text", "a", "--cbor", "1").code == 2
    assert run("publish", topic, "--text", "a", "--qos", "2").code == 2


def test_what_is_no_topic_is_a_usage_error(run: Run) -> None:
    for wrong in ("", "a/#", "v1/+/x"):
        ran = run("publish", wrong, "--text", "x")
        assert (ran.code, ran.out) == (2, "")
        assert repr(wrong) in ran.err
