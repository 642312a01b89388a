from plantroom.device.updater_record import Image
from plantroom.device.updater_reports import About, Reports, about_image, about_release
from plantroom.wire import ota_messages
from plantroom.wire.ota_messages import Report
from tests.fakes.ota_author import Author
from tests.fakes.ota_device import SimClock

ABOUT = About(release=bytes(32), sequence=4, version="1.4", campaign="spring")


def made(boots: int = 3) -> Reports:
    running = Image(version="1.3", sequence=3)
    return Reports("v1/s/ota/d/state", clock=SimClock(), boots=boots, running=running)


def said(reports: Reports) -> list[Report]:
    messages = reports.messages()
    assert all(message.retain and message.topic == "v1/s/ota/d/state" for message in messages)
    return [ota_messages.decode(message.payload, Report) for message in messages]


def test_each_state_is_said_once_and_in_order() -> None:
    reports = made()
    for _ in range(2):
        reports.say("QUEUED", ABOUT)
    reports.say("DOWNLOADING", ABOUT)
    first, second = said(reports)
    assert (first.state, second.state) == ("QUEUED", "DOWNLOADING")
    assert first.number < second.number
    assert (first.campaign, first.running_version) == ("spring", "1.3")
    assert said(reports) == []


def test_numbers_rise_over_restarts() -> None:
    before, after = made(3), made(4)
    for _ in range(50):
        before.say("QUEUED", ABOUT)
        before.say("WAITING", ABOUT)
    after.say("IDLE", About())
    assert said(before)[-1].number < said(after)[0].number


def test_progress_is_said_now_and_then() -> None:
    reports = made()
    reports.progress(1, 9, 0.0)
    reports.say("DOWNLOADING", ABOUT)
    for number in range(100):
        reports.progress(number, 100, number * 0.1)
    _, *progress = said(reports)
    assert 9 <= len(progress) <= 11
    assert progress[-1].chunks == 100


def test_a_new_connection_hears_the_last_word_again() -> None:
    reports = made()
    reports.again()
    assert said(reports) == []
    reports.say("UPDATED", ABOUT)
    first = said(reports)
    reports.again()
    (again,) = said(reports)
    assert again.state == first[0].state
    assert again.number > first[0].number


def test_offline_the_oldest_go() -> None:
    reports = made()
    for number in range(100):
        reports.say("FAILED", ABOUT, text=str(number))
    assert len(said(reports)) == 32


def test_what_runs_now_is_in_what_is_said_from_now_on() -> None:
    reports = made()
    reports.runs(Image(version="2"))
    reports.say("UPDATED", about_image(Image(version="2", sequence=9)), text="x" * 900)
    (report,) = said(reports)
    assert (report.running_version, report.sequence, len(report.text)) == ("2", 9, 500)
    assert about_release(Author().release(), "c").campaign == "c"
