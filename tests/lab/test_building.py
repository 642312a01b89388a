from plantroom.lab.building import Names, place, simulated


def test_the_default_devices_are_those_of_the_scope() -> None:
    hvac, occupancy, energy = simulated(3, seed=1, names=Names())
    assert (hvac.name, hvac.label, hvac.kind) == ("hvac-001", "HVAC-SENSOR-001", "hvac")
    assert hvac.place == "Floor-2-Zone-A"
    assert (occupancy.name, occupancy.label) == ("occupancy-001", "OCCUPANCY-001")
    assert (energy.name, energy.label) == ("energy-001", "ENERGY-001")
    assert str(hvac.spiffe_id) == "spiffe://building-1.smart.local/agent/hvac-001"


def test_more_devices_rotate_through_the_kinds_with_names_and_seeds_of_their_own() -> None:
    devices = simulated(100, seed=5, names=Names())
    assert devices[3].name == "hvac-002"
    assert len({device.name for device in devices}) == 100
    assert [device.seed for device in devices] == list(range(5, 105))


def test_places_go_on_for_ever() -> None:
    assert [place(room) for room in (0, 3, 4, 31, 32)] == [
        "Floor-2-Zone-A",
        "Floor-2-Zone-D",
        "Floor-3-Zone-A",
        "Floor-9-Zone-D",
        "Floor-2-Zone-A",
    ]
