import asyncio

import pytest

from plantroom.broker.access import OneAnswer
from plantroom.wire.policy import Question

QUESTION = Question(spiffe_id="s", cert_serial="1", client_id="c", action="connect")


@pytest.mark.parametrize("allow", [True, False])
def test_everybody_gets_the_same_answer(*, allow: bool) -> None:
    point = OneAnswer(allow=allow)
    assert point.now(QUESTION).allow is allow
    assert asyncio.run(point.decide(QUESTION)).allow is allow
    point.on_change(lambda: None)
