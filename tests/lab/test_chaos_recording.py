from pathlib import Path

from plantroom.device import mapping
from plantroom.lab import chaos_recording
from plantroom.lab.chaos_judge import produced


def test_same_seed_is_the_same_recording_and_every_row_has_a_time_of_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "again").mkdir()
    made, _ = chaos_recording.write(tmp_path, seed=7, sensors=2, rows=200)
    again, _ = chaos_recording.write(tmp_path / "again", seed=7, sensors=2, rows=200)
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in again]
    assert made[0].read_bytes() != made[1].read_bytes()
    rows = produced(made[0])
    assert len({time for time, _ in rows}) == len(rows) == 200


def test_mapping_fits_the_recordings_and_names_the_sensors(tmp_path: Path) -> None:
    made, map_file = chaos_recording.write(tmp_path, seed=1, sensors=1, rows=3)
    found = mapping.find(made[0], map_file)
    assert found.device == chaos_recording.device_name(1)
    assert {column.point for column in found.columns} == {"temperature", "humidity", "power"}
