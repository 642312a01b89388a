from plantroom.lab import judging
from plantroom.lab.layout import Layout
from plantroom.wire.policy import Question
from tests.lab.conftest import DEVICES


def question(spiffe_id: str) -> Question:
    return Question(
        spiffe_id=spiffe_id,
        cert_serial="01",
        client_id=spiffe_id.rpartition("/")[2],
        action="connect",
    )


def test_a_decision_is_made_from_the_registry_of_its_broker(set_up: Layout) -> None:
    device = question(str(DEVICES[0].spiffe_id))
    below = judging.explain(set_up, device, broker="gateway")
    assert below["allow"] is True
    assert below["registry_entry"]["role"] == "sensor"
    above = judging.explain(set_up, device, broker="cloud")
    assert (above["allow"], above["registry_entry"]) == (False, None)


def test_without_a_folder_the_registry_is_empty_and_none_is_made(layout: Layout) -> None:
    found = judging.explain(layout, question(str(DEVICES[0].spiffe_id)), broker="gateway")
    assert (found["allow"], found["reason"], found["registry"]) == (False, "unregistered", None)
    assert not layout.state.exists()
