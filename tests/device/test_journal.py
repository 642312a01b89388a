import pytest

from plantroom.device.journal import Journal


def test_lines_name_time_level_and_device(capsys: pytest.CaptureFixture[str]) -> None:
    Journal(level="INFO", target="stderr", name="hvac-001").warning("a\nb")
    line = capsys.readouterr().err
    assert line.endswith(" WARNING hvac-001: a b\n")
    assert line[:2] == "20"


def test_what_is_less_grave_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(level="WARNING", target="stderr", name="x")
    journal.debug("one")
    journal.info("two")
    journal.error("three")
    assert capsys.readouterr().err.count("\n") == 1


def test_syslog_gets_what_stderr_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import syslog

    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: lines.append((level, text)))
    Journal(level="INFO", target="syslog", name="x").error("gone")
    assert lines == [(syslog.LOG_ERR, "gone")]
    assert capsys.readouterr().err == ""
