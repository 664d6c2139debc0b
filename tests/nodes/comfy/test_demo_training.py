"""The training loop of both demo models: an interrupt changes not a bit, and the log keeps its rows."""

import csv

import pytest
import torch
from this_core import JOINT_DEMO

from i2am_pack.demo import sprites, train_joint, training

STEPS, CHECK_EVERY = 4, 2


@pytest.fixture(autouse=True)
def _checked_often(monkeypatch):
    monkeypatch.setattr(training, "CHECK_EVERY", CHECK_EVERY)


class TinyTask:
    """A line to fit, by two optimizers that remember; ``ends_at`` is the step at which it is interrupted."""

    changes_in_place = False

    def __init__(self, ends_at=None):
        torch.manual_seed(0)
        self.model, self.average = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizers = (
            torch.optim.AdamW([self.model.weight]),
            torch.optim.SGD([self.model.bias], momentum=0.9),
        )
        self.peaks = (0.1, 0.05)
        self.ends_at = ends_at
        self.seeds = []

    def losses(self, step, generator):
        if step == self.ends_at:
            raise KeyboardInterrupt
        self.seeds.append(generator.initial_seed())
        x = torch.randn(8, 3, generator=generator)
        loss = (self.model(x) - x[:, :2]).square().mean()
        return loss, {"line": loss}

    def check(self):
        return {"weight": self.average.weight.sum().item()}


@JOINT_DEMO
def test_a_step_of_the_joint_model_is_of_the_picture_alone(monkeypatch):
    """All weights learn from the picture's loss, and nothing else is gone down on."""
    held_out = sprites.held_out_sprites()
    monkeypatch.setattr(sprites, "render_font", lambda font: (held_out, held_out))
    monkeypatch.setattr(train_joint, "BATCH", 1)
    task = train_joint.JointTask("no font", seed=0)
    before = {name: weight.clone() for name, weight in task.model.named_parameters()}
    assert all(x.isfinite().all() for x in before.values())
    losses = training._step(task, 0, 1.0, torch.Generator().manual_seed(0))
    assert set(losses) == {"picture"} and losses["picture"] > 0
    unmoved = [name for name, weight in task.model.named_parameters() if torch.equal(weight, before[name])]
    # Of the text nothing reaches the picture behind the last block's attention, and its own first is zeros of nothing.
    assert not [name for name in unmoved if "txt" not in name]


def trained(run, task=None, seed=5):
    task = task or TinyTask()
    training.train(run, task, STEPS, seed, lambda step, steps: 1 - step / steps, (2,), {"of": "a line"})
    return task


def interrupted(run, at):
    with pytest.raises(KeyboardInterrupt):
        trained(run, TinyTask(ends_at=at))


def rows(run):
    with (run / "training.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def state(run):
    """All tensors of the checkpoint, by their place in it."""

    def walk(value, place):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, (*place, name))
        elif torch.is_tensor(value):
            yield place, value

    return dict(walk(torch.load(run / "checkpoint.pt", weights_only=True), ()))


@pytest.mark.parametrize("at", [2, 3])
def test_a_resumed_run_is_an_uninterrupted_one_to_the_bit(tmp_path, at):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trained(whole)
    interrupted(parts, at)
    assert len(rows(parts)) == 1
    trained(parts)
    one, other = state(whole), state(parts)
    assert {place[0] for place in one} == {"model", "average", "optimizer 0", "optimizer 1"}
    assert one.keys() == other.keys() and all(torch.equal(one[place], other[place]) for place in one)
    assert rows(parts) == rows(whole)
    for name in ("step_00002.safetensors", "step_00004.safetensors"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_what_the_log_has_of_steps_after_the_checkpoint_is_done_again(tmp_path):
    """A run that ends between its log and its checkpoint has a row too many."""
    interrupted(tmp_path, 3)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    trained(tmp_path)
    after = rows(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(before)
    trained(tmp_path)
    assert [row["step"] for row in after] == ["2", "4"] and rows(tmp_path) == after


def test_a_run_that_has_ended_is_left_as_it_is(tmp_path):
    trained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    task = trained(tmp_path, TinyTask(ends_at=0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert task.average.weight.sum().item() == pytest.approx(float(rows(tmp_path)[-1]["weight"]), abs=1e-3)


def test_each_step_and_seed_draws_numbers_of_its_own(tmp_path):
    drawn = [seed for seed in (5, 6) for seed in trained(tmp_path / f"{seed}", seed=seed).seeds]
    assert len(set(drawn)) == 2 * STEPS


def test_the_average_follows_the_model(tmp_path):
    task = trained(tmp_path)
    assert not torch.equal(task.average.weight, task.model.weight)
    first = TinyTask().model.weight
    assert (task.average.weight - task.model.weight).norm() < (first - task.model.weight).norm()


def test_the_rate_rises_and_falls():
    rates = [training.warm_up_and_decay(step, 100, 10, 0.3) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:70] == [1.0] * 61
    assert rates[85] == pytest.approx(0.5) and rates[-1] == pytest.approx(1 / 30)
