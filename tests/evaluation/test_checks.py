"""What is said before anything runs."""

import csv

import pytest
from PIL import Image

from devenv import HostError
from evaluation.__main__ import main
from evaluation.checks import MOST_NAMED, check_columns, check_rows, check_servers, check_unchanged, check_wanted
from evaluation.table import Table
from evaluation.workflow import Feed, Wanted, Workflow

WORKFLOW = Workflow({}, (Feed("seed", "2", "seed", "INT"), Feed("scene", "1", "image", "COMBO", picture=True)), {}, "4")


def table_of(folder, rows):
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["seed", "scene", "truth"], *rows])
    return Table.of(path)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "good.png"
    Image.new("RGB", (4, 4)).save(path)
    return str(path)


def test_good_rows_are_counted(tmp_path, picture):
    table = table_of(tmp_path, [[n, picture, picture] for n in range(600)])
    assert check_rows(table, WORKFLOW, Wanted("truth")) == 600


def test_rows_that_cannot_be_run_are_named(tmp_path, picture):
    (tmp_path / "text.png").write_text("no picture")
    cut = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 9).save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    table = table_of(tmp_path, [["x", picture, picture], [1, tmp_path / "gone.png", picture], [2, picture, cut]])
    with pytest.raises(HostError, match="expected INT") as error:
        check_rows(table, WORKFLOW, Wanted("truth"))
    assert "gone.png is not there" in str(error.value) and "cut.png is no picture" in str(error.value)
    table = table_of(tmp_path, [[n, tmp_path / "text.png", picture] for n in range(9)])
    with pytest.raises(HostError, match=r"text\.png is no picture that can be read"):
        check_rows(table, WORKFLOW, Wanted())


def test_of_many_wrong_rows_some_are_named(tmp_path, picture):
    with pytest.raises(HostError) as error:
        check_rows(table_of(tmp_path, [["x", picture, picture]] * 50), WORKFLOW, Wanted())
    assert str(error.value).count("expected INT") == MOST_NAMED and str(error.value).endswith(" ...")


def test_names_of_rows_that_name_files(tmp_path, picture):
    path = tmp_path / "table.csv"
    path.write_text(f"id,seed,scene\n../../x,1,{picture}\n")
    assert check_rows(Table.of(path), WORKFLOW, Wanted()) == 1
    with pytest.raises(HostError, match="cannot be the name of a file"):
        check_rows(Table.of(path), WORKFLOW, Wanted(), named=True)


@pytest.mark.parametrize("column", ["error", "seconds", "seconds.graph", "imacs.r2g.score", "imacs@3.x", "psnr"])
def test_columns_that_the_result_has(column):
    check_columns(["seed", "3.imacs", "loader.weights"])
    with pytest.raises(HostError, match="rename it"):
        check_columns(["seed", column])


@pytest.mark.parametrize(
    ("wanted", "picture", "sentence"),
    [
        (Wanted("right"), "4", "has no column 'right': it has seed, truth"),
        (Wanted("truth", "holes"), "4", "has no column 'holes'"),
        (Wanted("truth"), None, "shows no picture to be judged"),
    ],
)
def test_what_pictures_are_judged_by_must_be_there(wanted, picture, sentence):
    with pytest.raises(HostError, match=sentence):
        check_wanted(wanted, ["seed", "truth"], Workflow({}, (), {}, picture))


def test_a_server_that_does_not_answer():
    with pytest.raises(HostError, match=r"The server http://127\.0\.0\.1:9 cannot be used"):
        check_servers(["http://127.0.0.1:9"])


@pytest.fixture
def answering(monkeypatch):
    """Servers by their address: the versions and the nodes that each has."""
    servers = {}

    class Client:
        def __init__(self, url):
            self.url = url

        def system_stats(self):
            return {"system": servers[self.url][0]}

        def object_info(self):
            return servers[self.url][1]

    monkeypatch.setattr("evaluation.checks.ComfyClient", Client)
    return servers


def test_servers_must_be_alike(answering):
    about, nodes = {"comfyui_version": "0.3.75", "pytorch_version": "2"}, {"I2AM_IMACS": {"input": {}}, "Other": 1}
    answering.update(a=(about, nodes), b=(about | {"comfyui_version": "0.4"}, nodes), c=(about, {"Other": 1}))
    assert check_servers(["a", "a"]) == (nodes, about)
    with pytest.raises(HostError, match=r"differ in comfyui_version: a has 0.3.75, b has 0.4"):
        check_servers(["a", "b"])
    with pytest.raises(HostError, match="have another I2AM_IMACS"):
        check_servers(["a", "c"])


def test_a_row_that_was_run_with_other_values_is_named_before_anything_runs(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,seed\na,1\nb,2\n")
    table = Table.of(path)
    done = {row.name: row.digest for row in table.rows()}
    check_unchanged(table, done)
    path.write_text("id,seed\na,1\nb,3\nc,4\n")
    with pytest.raises(HostError, match="Row 'b' had other values when it was run"):
        check_unchanged(table, done)
    check_unchanged(table, {"a": done["a"]})  # what failed, and is run once more, may have been corrected


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "w", "t", "f", "--start", "-1"],
        ["run", "w", "t", "f", "--seconds", "0"],
        ["run", "w", "t", "f", "--seconds", "nan"],
        ["run", "w", "t", "f", "--memory", "1.5"],
        ["simulate", "f", "--servers", "0"],
        ["simulate", "f", "--processes", "0"],
    ],
)
def test_numbers_of_the_command(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert f"argument {arguments[-2]}: is {arguments[-1]}: give a" in capsys.readouterr().err
