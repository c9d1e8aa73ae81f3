"""CSV columns get a type only when no value changes by it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.cli.columns import ROWS_AT_ONCE, ColumnType, infer, is_integer, is_number, records
from stele.cli.exits import InputError, UsageError
from stele.cli.records import CsvRules, csv_lines, key_rule, ndjson_lines
from stele.cli.sources import opened
from stele.client.bulk_lines import Line, chunks_of

NULLS = frozenset({"", "NA"})


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-20", "0"], "integer"),
        (["1", "", "NA"], "integer"),
        (["9007199254740991"], "integer"),
        (["9007199254740992"], "text"),
        (["007", "1"], "text"),
        (["+1"], "text"),
        (["-0"], "text"),
        (["1e3", "2e5"], "text"),
        (["0x10"], "text"),
        (["1_000"], "text"),
        ([" 1"], "text"),
        (["١"], "text"),
        (["1", "2.5"], "number"),
        (["12.50", "-0.1"], "number"),
        (["1.5e-7"], "number"),
        (["-0.0"], "text"),
        (["0.1234567890123456789"], "text"),
        (["1.5e400"], "text"),
        (["nan"], "text"),
        (["inf"], "text"),
        (["1", "a"], "text"),
        (["2.5", "a"], "text"),
        (["", "NA"], "text"),
        ([], "text"),
    ],
)
def test_types_of_columns(cells: list[str], kind: ColumnType) -> None:
    assert infer([[cell] for cell in cells], ["x"], NULLS) == [kind]


def test_a_type_holds_for_the_whole_file() -> None:
    rows = [["1"]] * (3 * ROWS_AT_ONCE)
    assert infer([*rows, ["x"]], ["x"], NULLS) == ["text"]
    assert infer([*rows, ["1.5"]], ["x"], NULLS) == ["number"]
    assert infer([["1.5"], *rows], ["x"], NULLS) == ["number"]


@given(st.text(alphabet="0123456789.+-eE ", max_size=24) | st.floats().map(str) | st.integers().map(str))
def test_a_cell_that_counts_as_a_number_keeps_its_value(cell: str) -> None:
    if is_integer(cell):
        assert str(int(cell)) == cell
    if is_number(cell):
        assert Decimal(repr(float(cell))) == Decimal(cell)
        assert json.loads(json.dumps(float(cell))) == float(cell)


def test_empty_cells_are_absent_or_null() -> None:
    rows, names, types = [["1", "NA"], ["", "b"]], ["a", "b"], ["integer", "text"]
    kinds: list[ColumnType] = ["integer", "text"]
    assert types == kinds
    absent = list(records(rows, names, kinds, nulls=NULLS, empty="absent"))
    assert absent == [{"a": 1}, {"b": "b"}]
    null = list(records(rows, names, kinds, nulls=NULLS, empty="null"))
    assert null == [{"a": 1, "b": None}, {"a": None, "b": "b"}]


def test_a_cell_of_another_kind_names_its_record_and_the_flag() -> None:
    rows = [["1"]] * (ROWS_AT_ONCE + 5) + [["oops"], ["2"]]
    reading = records(rows, ["count"], ["integer"], nulls=NULLS, empty="absent")
    with pytest.raises(InputError, match=rf"record {ROWS_AT_ONCE + 6}: 'oops' .* --text count"):
        list(reading)


def load(path: Path, rules: CsvRules | None = None, key: str | None = None) -> list[Line]:
    with opened(str(path)) as source:
        return list(csv_lines(source, key_rule(None, key), rules or CsvRules()))


def documents(lines: list[Line]) -> list[object]:
    text = b"".join(chunk.data for chunk in chunks_of(lines))
    return [json.loads(line)["data"] for line in text.splitlines()]


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=8))
def test_a_csv_file_of_text_comes_back_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["a", "ß"], *rows])
    rules = CsvRules(all_text=True, nulls=frozenset(), empty="null")
    assert documents(load(path, rules)) == [dict(zip(["a", "ß"], row, strict=True)) for row in rows]


def test_real_looking_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('id,zip,price,note\r\n1,01234,1.50,"a, ""b"""\r\n\r\n2,99999,2,\r\n')
    lines = load(path, key="{zip}-{id}/{#}".replace("/", "."))
    assert [line.key for line in lines if not isinstance(line, bytes)] == ["01234-1.1", "99999-2.2"]
    assert documents(lines) == [
        {"id": 1, "zip": "01234", "price": 1.5, "note": 'a, "b"'},
        {"id": 2, "zip": "99999", "price": 2.0},
    ]
    assert documents(load(path, CsvRules(text=("id",))))[0]["id"] == "1"  # type: ignore[index]
    with pytest.raises(UsageError, match="nothing"):
        load(path, CsvRules(text=("nothing",)))
    with pytest.raises(InputError, match="key's field 'note' is not there"):
        load(path, key="{note}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header"),
        (b"a,a\n1,2\n", "name of its own"),
        (b"a,\n1,2\n", "name of its own"),
        (b"a,b\n1\n", "record 1 has 1 cells"),
        (b"a\n1\n2,3\n", "record 2 has 2 cells"),
        (b"a\n\xff\n", "UTF-8"),
        (b'a\n"x\n', "not CSV"),
    ],
)
def test_what_is_no_csv_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(path)


def ndjson(tmp_path: Path, content: bytes, key: str | None) -> list[Line]:
    path = tmp_path / "x.ndjson"
    path.write_bytes(content)
    with opened(str(path)) as source:
        return list(ndjson_lines(source, key_rule(key, None)))


def test_ndjson_goes_on_as_it_is(tmp_path: Path) -> None:
    text = b'{"key":"a","data":{"x":1.0e2}}\n\n  {"data":{}}  '
    assert ndjson(tmp_path, text, None) == [b'{"key":"a","data":{"x":1.0e2}}', b'{"data":{}}']
    lines = ndjson(tmp_path, b'{"id":7,"x":1.0e2,"x":2}\n', "id")
    assert next(chunks_of(lines)).data == b'{"key":"7","data":{"id":7,"x":1.0e2,"x":2}}\n'


@pytest.mark.parametrize("line", [b"[1]", b"{", b'{"other":1}', b'{"id":1.5}', b'{"id":null}', b"\xff"])
def test_ndjson_without_a_usable_key_is_refused(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(InputError, match="record 2"):
        ndjson(tmp_path, b'{"id":"a"}\n' + line + b"\n", "id")


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    packed = io.BytesIO()
    with gzip.open(packed, "wb") as file:
        file.write(b'{"data":{}}\n' * 1000)
    path.write_bytes(packed.getvalue()[:-20])
    with pytest.raises(InputError, match="cannot read"), opened(str(path)) as source:
        list(ndjson_lines(source, None))
    for arguments in [("a", "b"), (None, "no field")]:
        with pytest.raises(UsageError):
            key_rule(*arguments)
