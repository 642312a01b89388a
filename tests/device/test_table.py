from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.device.table import LINE_BYTES_MAX, Record, RowError, Table, split
from plantroom.wire.errors import ConfigError


def read(path: Path, text: str | bytes) -> tuple[Table, list[Record], list[str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    table = Table.open(path)
    errors: list[str] = []
    records = list(
        table.records(
            table.offset, 2, lambda error: errors.append(f"{error.line}:{error.column}: {error}")
        )
    )
    return table, records, errors


def texts(records: list[Record]) -> list[list[str]]:
    return [[cell.text for cell in record.cells] for record in records]


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ('" 50", "x" ,5', ["50", "x", "5"]),
        ('"a,b","say ""hi""",', ["a,b", 'say "hi"', ""]),
        ('5" pipe,1', ['5" pipe', "1"]),
        (",", ["", ""]),
        ("", [""]),
        ('""', [""]),
    ],
)
def test_line_is_split_as_written(line: str, cells: list[str]) -> None:
    assert [cell.text for cell in split(line, ",")] == cells


def test_cells_say_where_they_begin() -> None:
    assert [cell.column for cell in split('ab, "c" ,d', ",")] == [1, 5, 10]


def test_tab_is_a_delimiter_and_no_padding() -> None:
    assert [cell.text for cell in split('a\t\t"b"\t', "\t")] == ["a", "", "b", ""]


@pytest.mark.parametrize(("line", "column"), [('1,"ab', 3), ('1,"a"b,2', 3), ('1, "a" b', 4)])
def test_quote_that_does_not_end_its_cell_is_an_error(line: str, column: int) -> None:
    with pytest.raises(RowError) as caught:
        split(line, ",")
    assert caught.value.column == column


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1, max_size=6))
def test_quoted_cells_come_back(cells: list[str]) -> None:
    line = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    assert [cell.text for cell in split(line, ",")] == [cell.strip() for cell in cells]


@given(st.text(max_size=60))
def test_any_line_gives_cells_or_a_named_error(line: str) -> None:
    columns = []
    try:
        columns = [cell.column for cell in split(line, ",")]
    except RowError as error:
        columns = [error.column]
    assert columns == sorted(columns)
    assert 1 <= columns[0] <= columns[-1] <= len(line) + 1


def test_header_that_omits_the_row_number_is_seen(tmp_path: Path) -> None:
    table, records, errors = read(tmp_path / "a.csv", '"t","x"\n"1","a",5\n"2","b",6\n')
    assert table.header == ("t", "x")
    assert table.numbered
    assert texts(records) == [["a", "5"], ["b", "6"]]
    assert not errors


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ('t;"in, out, sum";x\n1;2;3\n', ("t", "in, out, sum", "x")),
        ("t\ta, b, c\tx\n1\t2\t3\n", ("t", "a, b, c", "x")),
    ],
)
def test_what_separates_the_columns_is_what_the_rows_have(
    tmp_path: Path, text: str, header: tuple[str, ...]
) -> None:
    table, records, errors = read(tmp_path / "a.csv", text)
    assert table.header == header
    assert texts(records) == [["1", "2", "3"]]
    assert not errors


def test_one_row_too_long_does_not_make_all_others_wrong(tmp_path: Path) -> None:
    table, records, errors = read(tmp_path / "a.csv", "t,x\n1,2,3\n4,5\n6,7\n")
    assert not table.numbered
    assert texts(records) == [["4", "5"], ["6", "7"]]
    assert errors == ["2:6: 3 cells, 2 are wanted"]


def test_offsets_and_lines_lead_back_to_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table, records, _ = read(path, "t,x\r\n1,2\r\n\r\n3,4\r\n5,6")
    assert [record.line for record in records] == [2, 4, 5]
    rest = list(table.records(records[0].offset, records[0].next_line, lambda _error: None))
    assert texts(rest) == [["3", "4"], ["5", "6"]]
    assert [record.line for record in rest] == [4, 5]


def test_open_quote_harms_no_row_but_its_own(tmp_path: Path) -> None:
    _, records, errors = read(
        tmp_path / "a.csv", '"t","x"\n"1","a"\n"2,"b"\n"3","c\n"4","d"\n"5","e"\n'
    )
    assert [cells[0] for cells in texts(records)] == ["1", "4", "5"]
    assert [error.split(":")[0] for error in errors] == ["3", "4"]


def test_cell_may_go_on_in_the_next_line(tmp_path: Path) -> None:
    _, records, errors = read(tmp_path / "a.csv", 't,x\n1,"two\nlines"\n2,b\n')
    assert texts(records) == [["1", "two\nlines"], ["2", "b"]]
    assert [(record.line, record.next_line) for record in records] == [(2, 4), (4, 5)]
    assert not errors


def test_endless_line_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    long = "9" * (2 * LINE_BYTES_MAX + 10)
    _, records, errors = read(tmp_path / "a.csv", f"t,x\n1,{long}\n2,b\n")
    assert texts(records) == [["2", "b"]]
    assert errors[0].startswith("2:")


def test_bytes_that_are_no_text_do_not_stop_the_reading(tmp_path: Path) -> None:
    _, records, _ = read(tmp_path / "a.csv", b"t,x\n1,\xff\xfe\n2,b\n")
    assert [record.line for record in records] == [2, 3]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiter_is_taken_from_the_header(tmp_path: Path, delimiter: str) -> None:
    table, records, _ = read(tmp_path / "a.csv", f"t{delimiter}x\n1{delimiter}2,5\n")
    assert table.delimiter == delimiter
    assert texts(records) == [["1", "2,5"]]


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    table, _, _ = read(tmp_path / "a.csv", b"\xef\xbb\xbft,x\n1,2\n")
    assert table.header == ("t", "x")


def test_file_without_a_header_or_without_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ConfigError, match=r"no header.*empty\.csv"):
        Table.open(tmp_path / "empty.csv")
    with pytest.raises(ConfigError, match=r"none\.csv"):
        Table.open(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text('"t,x\n')
    with pytest.raises(ConfigError, match=r"bad\.csv:1:1"):
        Table.open(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("t,x\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"t,x\r1,2\r", "carriage return only"),
        (b"t," + b"x" * LINE_BYTES_MAX, "longer than"),
        (b"\n\nt,x\n", r"no header.*form\.csv:1: .*in its first line"),
    ],
)
def test_header_that_cannot_be_read_says_why(tmp_path: Path, raw: bytes, says: str) -> None:
    (tmp_path / "form.csv").write_bytes(raw)
    with pytest.raises(ConfigError, match=says):
        Table.open(tmp_path / "form.csv")
