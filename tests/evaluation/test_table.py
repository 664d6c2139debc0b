"""The table of inputs: what its rows are called, and what is wrong with it."""

import pyarrow
import pyarrow.parquet
import pytest

from devenv import HostError
from evaluation.table import BATCH, Table


def written(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_rows_have_the_names_in_their_column(tmp_path):
    table = Table.of(written(tmp_path, "id,seed\none,007\ntwo,8\n"))
    assert table.columns == ("id", "seed")
    assert [(row.name, row.values["seed"]) for row in table.rows()] == [("one", "007"), ("two", "8")]


def test_rows_without_names_are_named_by_what_is_in_them(tmp_path):
    """So that a row that is put in between does not change the others' names."""
    before = [row.name for row in Table.of(written(tmp_path, "seed\n1\n2\n1\n")).rows()]
    after = [row.name for row in Table.of(written(tmp_path, "seed\n1\n9\n2\n1\n", "more.csv")).rows()]
    assert len(set(before)) == 3
    assert [after[0], after[2], after[3]] == before


def test_parquet_has_the_types_of_its_columns_and_is_read_in_parts(tmp_path):
    count = 2 * BATCH + 3
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"seed": list(range(count)), "name": ["x"] * count}), path)
    rows = list(Table.of(path).rows())
    assert [row.values["seed"] for row in rows] == list(range(count))
    assert len({row.name for row in rows}) == count


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("table.txt", "seed\n1\n", "The table is table.txt: give a CSV file"),
        ("table.csv", "", "cannot be read"),
        ("table.csv", "a,a\n1,2\n", "several columns called 'a'"),
        ("table.csv", "a,b\n1\n", "cannot be read"),
        ("table.csv", "a\n", "has no rows"),
        ("table.parquet", "no parquet", "cannot be read"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, name, text, sentence):
    with pytest.raises(HostError, match=sentence):
        list(Table.of(written(tmp_path, text, name)).rows())


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(HostError, match="is not there"):
        Table.of(tmp_path / "none.csv")


@pytest.mark.parametrize(("text", "sentence"), [("id\na\na\n", "several rows of the id 'a'"), ("id,b\n,1\n", "no id")])
def test_names_are_one_for_each_row(tmp_path, text, sentence):
    with pytest.raises(HostError, match=sentence):
        list(Table.of(written(tmp_path, text)).rows())
