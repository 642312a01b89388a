from plantroom.certs.join_code import PREFIX
from plantroom.cli import qr


def test_a_join_code_fits_a_terminal() -> None:
    lines = qr.text_of(PREFIX + "a" * 280).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert qr.text_of("one") != qr.text_of("two")
