import re
from pathlib import Path

from plantroom.wire import ota_states

ROOT = Path(__file__).parents[2]
CODE = re.compile(r'code="([a-z-]+)"')


def test_every_code_that_is_raised_is_explained() -> None:
    raised = {
        code
        for path in [*(ROOT / "wire").glob("*.py"), *(ROOT / "device").glob("updat*.py")]
        if "RejectedError(" in path.read_text(encoding="utf-8")
        for code in CODE.findall(path.read_text(encoding="utf-8"))
    }
    assert raised <= {*ota_states.CODES, *ota_states.WAITS, *ota_states.FAILURES}


def test_final_states_are_states() -> None:
    assert set(ota_states.STATES) > ota_states.FINAL_STATES
