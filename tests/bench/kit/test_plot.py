from pathlib import Path
from xml.etree import ElementTree as ET

from tests.bench.kit import figures, plot
from tests.bench.kit.figures import Pair


def test_the_picture_is_well_formed_and_names_every_ratio(tmp_path: Path) -> None:
    rows = [
        figures.compared("a < b", [Pair(5.0, 1.0)], peer_name="R & D", unit="x", target=3.0),
        figures.compared("c", [Pair(1.0, 50.0)], peer_name="p", unit="x"),
        figures.alone("no ratio", 7.0, unit="MB"),
    ]
    file = tmp_path / "ratios.svg"
    plot.write(file, rows, "title")
    words = [element.text for element in ET.parse(file).iter() if element.text]  # noqa: S314 -- ours
    assert "a < b / R & D" in words
    assert "c / p" in words
    assert not any("no ratio" in word for word in words)


def test_nothing_to_show_is_still_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "ratios.svg"
    plot.write(file, [], "title")
    assert ET.parse(file).getroot().tag.endswith("svg")  # noqa: S314 -- ours
