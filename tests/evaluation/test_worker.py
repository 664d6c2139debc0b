"""A worker and its server: when it is started, stopped and started again."""

import threading

import pytest
from PIL import Image

from comfy_client import PromptFailed, PromptRefused, ServerError
from evaluation.servers import MEGABYTE, Ran, Specification, seconds_of
from evaluation.simulate import SAID
from evaluation.table import Row
from evaluation.worker import Task, Worker
from evaluation.workflow import READER, Feed, Wanted, Workflow


class Watched:
    """A server that writes down what is done with it, and raises what it is given."""

    name = "watched"

    def __init__(self):
        self.done, self.raises, self.bytes = [], [], 0

    def start(self):
        self.done.append("start")

    def stop(self):
        self.done.append("stop")

    def upload(self, picture, ending):
        self.done.append(f"upload {picture!r} {ending}")
        return "uploaded"

    def run(self, graph):
        self.done.append("run")
        if self.raises:
            raise self.raises.pop()
        return Ran({f"{READER}imacs": {"text": [SAID]}}, 0.5)

    def memory(self):
        return self.bytes


def working(server, feeds=(), saved=None, picture=None, truth="", **task):
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": ""}}}
    workflow = Workflow(graph, tuple(feeds), {f"{READER}imacs": "imacs"}, picture, saved or {})
    worker = Worker(Specification("own", "http://127.0.0.1:1"), Task(workflow, Wanted(truth), **task))
    worker.server = server
    return worker


def test_a_server_is_started_once():
    server = Watched()
    worker = working(server)
    answers = [worker.run(Row(name, {"seed": 1})) for name in "ab"]
    assert server.done == ["start", "run", "run"]
    result = answers[0].result
    assert result["id"] == "a" and result["seed"] == 1 and result["error"] is None
    assert result["imacs.r2g.score"] == 0.1 and result["imacs.g2r.reason"] == "asleep" and result["seconds"] >= 0
    assert result["seconds.graph"] == 0.5


def test_a_graph_that_fails_is_a_result_and_its_server_goes_on():
    server = Watched()
    server.raises = [PromptFailed("Node 3 (KSampler): out of luck")]
    worker = working(server)
    assert worker.run(Row("a", {})).result["error"] == "Node 3 (KSampler): out of luck"
    assert worker.run(Row("b", {})).result["error"] is None
    assert server.done == ["start", "run", "run"]


@pytest.mark.parametrize("error", ["OutOfMemoryError: 1 GB", "RuntimeError: CUDA error: an illegal memory access"])
def test_a_server_whose_device_is_sick_is_started_again(error):
    server = Watched()
    server.raises = [PromptFailed(f"Node 3 (KSampler): {error}")]
    worker = working(server)
    assert worker.run(Row("a", {})).result is None
    assert worker.run(Row("a", {})).result["error"] is None
    assert server.done == ["start", "run", "stop", "start", "run"]


def test_a_disk_that_is_full_is_not_the_fault_of_the_row():
    class Full(Watched):
        def start(self):
            raise OSError(28, "No space left on device")

    answer = working(Full()).run(Row("a", {}))
    assert answer.result is None and not answer.started and "No space left" in answer.why


def test_a_server_that_fails_is_started_again():
    server = Watched()
    server.raises = [ServerError("it hangs")]
    worker = working(server)
    answer = worker.run(Row("a", {}))
    assert answer.result is None and answer.why == "it hangs" and answer.started
    assert worker.run(Row("a", {})).result["error"] is None
    assert server.done == ["start", "run", "stop", "start", "run"]


def test_a_server_that_does_not_start_is_not_the_fault_of_the_row():
    class Dead(Watched):
        def start(self):
            raise ServerError("no")

    worker = working(Dead())
    worker.patience = 0
    answer = worker.run(Row("a", {}))
    assert answer.result is None and not answer.started and answer.why == "no"


@pytest.mark.parametrize(("has", "starts"), [(99, 1), (101, 2)])
def test_a_server_that_has_grown_is_started_again(has, starts):
    server = Watched()
    server.bytes = has * MEGABYTE
    worker = working(server, most_memory=100)
    assert all(worker.run(Row(name, {})).result["error"] is None for name in "ab")
    assert server.done.count("start") == starts


def test_pictures_are_sent(tmp_path):
    (tmp_path / "a.PNG").write_bytes(b"pixels")
    server = Watched()
    worker = working(server, [Feed("picture", "1", "image", "COMBO", picture=True)])
    assert worker.run(Row("a", {"picture": str(tmp_path / "a.PNG")})).result["error"] is None
    assert server.done == ["start", "upload b'pixels' .png", "run"]
    gone = worker.run(Row("b", {"picture": str(tmp_path / "gone.png")}))
    assert gone.result is None and "No such file" in gone.why, "on another machine it may be there"
    assert "stop" not in server.done, "the server is well"


def test_a_graph_that_is_refused_is_tried_once_more_with_its_pictures_sent_anew(tmp_path):
    """As by a server that lost its input folder."""
    (tmp_path / "a.png").write_bytes(b"pixels")
    server, row = Watched(), Row("a", {"picture": str(tmp_path / "a.png")})
    server.raises = [PromptRefused("Invalid image file")]
    worker = working(server, [Feed("picture", "1", "image", "COMBO", picture=True)])
    assert worker.run(row).result["error"] is None
    assert server.done == ["start", *["upload b'pixels' .png", "run"] * 2]
    server.raises = [PromptRefused("no such node")] * 2
    assert worker.run(row).result["error"] == "no such node", "for good"


def test_a_value_that_its_input_does_not_take_is_the_fault_of_the_row():
    server = Watched()
    worker = working(server, [Feed("seed", "1", "seed", "INT")])
    assert worker.run(Row("a", {"seed": "x"})).result["error"] == "column 'seed' is 'x', expected INT"
    assert server.done == ["start"]


class Painter(Watched):
    """A server that makes a picture."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def run(self, graph):
        return Ran(super().run(graph).outputs | {"picture": {"images": [{}]}})

    def view(self, image):
        return self.picture


def test_a_truth_that_is_gone_is_not_the_server_s_fault(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "made.png")
    server = Painter((tmp_path / "made.png").read_bytes())
    worker = working(server, picture="picture", truth="truth")
    answer = worker.run(Row("a", {"truth": str(tmp_path / "gone.png")}))
    assert answer.result is None and "No such file" in answer.why and answer.started
    assert server.done == ["start", "run"]


def test_a_picture_that_cannot_be_read_is_the_server_s_fault(tmp_path):
    server = Painter(b"half a picture")
    answer = working(server, picture="picture", truth="truth").run(Row("a", {"truth": "truth.png"}))
    assert answer.result is None and "picture that cannot be read" in answer.why
    assert server.done == ["start", "run", "stop"]


@pytest.mark.parametrize("ends_while", ["start", "run"])
def test_a_worker_that_was_ended_starts_no_server_again(ends_while):
    """A row is in it, and one waits: both come back, the second as it came."""
    entered, ended = threading.Event(), threading.Event()

    class Slow(Watched):
        def _takes_long(self, what):
            if what == ends_while:
                entered.set()
                assert ended.wait(10)
                raise ServerError("ended")

        def start(self):
            super().start()
            self._takes_long("start")

        def run(self, graph):
            self._takes_long("run")

        def stop(self):
            super().stop()
            ended.set()

    server, answers = Slow(), []
    worker = working(server)
    rows = [threading.Thread(target=lambda n=n: answers.append(worker.run(Row(n, {})))) for n in "ab"]
    for row in rows:
        row.start()
    assert entered.wait(10)
    worker.stop()
    for row in rows:
        row.join(10)
    assert server.done.count("start") == 1 and server.done[-1] == "stop"
    assert sorted(answer.started for answer in answers) == [False, ends_while == "run"]
    assert all(answer.result is None for answer in answers)


def test_a_server_that_comes_up_while_its_worker_is_ended_ends_too():
    """As of one whose process is made just after there was none to end: it is not waited for until it answers."""
    entered, ended = threading.Event(), [threading.Event(), threading.Event()]

    class Late(Watched):
        def start(self):
            entered.set()
            assert all(stop.wait(5) for stop in ended)
            raise ServerError("ended on its way up")

        def stop(self):
            ended[ended[0].is_set()].set()

    worker, answers = working(Late()), []
    row = threading.Thread(target=lambda: answers.append(worker.run(Row("a", {}))))
    row.start()
    assert entered.wait(10)
    worker.stop()
    assert ended[1].is_set()
    row.join(10)
    assert answers[0].why == "ended on its way up" and not answers[0].started


def test_maps_are_fetched(tmp_path):
    server = Watched()
    worker = working(server, saved={"s": "evaluation:s"}, maps=str(tmp_path))
    outputs = {f"{READER}imacs": {"text": [SAID]}, "evaluation:s": {"text": ["i2am/v1.2.a.x"]}}
    server.run = lambda graph: Ran(outputs)
    server.view = lambda file: f"{file['subfolder']} {file['filename']}".encode()
    assert worker.run(Row("a", {})).result["error"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.a.x"]
    assert (tmp_path / "a.a.x").read_bytes() == b"i2am v1.2.a.x"


def test_an_answer_without_scores_is_the_server_s_fault():
    server = Watched()
    server.run = lambda graph: Ran({})
    assert "no output of evaluation:imacs" in working(server).run(Row("a", {})).why


def test_scores_that_are_no_json_are_the_server_s_fault():
    server = Watched()
    server.run = lambda graph: Ran({f"{READER}imacs": {"text": ["{"]}})
    answer = working(server).run(Row("a", {}))
    assert answer.result is None and "no JSON" in answer.why and server.done == ["start", "stop"]


def test_seconds_of_a_graph():
    messages = [["execution_start", {"timestamp": 1000}], ["execution_cached", {}]]
    assert seconds_of({"status": {"messages": messages}}) is None
    ended = [*messages, ["execution_success", {"timestamp": 1250}]]
    assert seconds_of({"status": {"messages": ended}}) == 0.25
