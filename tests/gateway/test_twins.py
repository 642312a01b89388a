from plantroom.gateway.twins import DEVICES_MAX, EPOCHS_MAX, QUIET_US, Twins


def test_an_agent_that_starts_again_is_no_twin() -> None:
    twins = Twins()
    for epoch in (1, 1, 2, 2, 3):
        assert twins.born("hvac-001", epoch, 0) == ""


def test_a_former_epoch_that_is_born_again_is_a_twin_until_it_is_quiet() -> None:
    twins = Twins()
    assert [twins.born("a", epoch, 0) for epoch in (1, 2, 1, 2)] == ["", "", "twins", "twins"]
    assert twins.born("b", 1, 0) == "", "each device has its own"
    assert twins.born("a", 2, QUIET_US - 1) == ""
    assert twins.born("a", 2, QUIET_US) == "alone"
    assert twins.born("a", 2, 2 * QUIET_US) == "", "it is said once"


def test_what_is_remembered_is_bounded() -> None:
    twins = Twins()
    for epoch in range(EPOCHS_MAX + 5):
        twins.born("a", epoch, 0)
    assert twins.born("a", 0, 0) == ""
    for number in range(DEVICES_MAX):
        twins.born(f"d{number}", 1, 0)
    assert len(twins._lives) == DEVICES_MAX
