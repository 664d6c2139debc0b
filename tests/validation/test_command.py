"""The command: what is wrong is one sentence, before anything is computed; a part that was run is not run again."""

import subprocess
from pathlib import Path

import pytest

from i2am_pack.validation import __main__ as command
from i2am_pack.validation.section import Section

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["imacs", "nonsense"], "There is no part 'nonsense': the parts are "),
        (["--scenes", "0"], "--scenes is 0: give 2 to 64."),
        (["--scenes", "65"], "--scenes is 65: give 2 to 64."),
        (["--steps", "0"], "--steps is 0: give 1 or more."),
    ],
)
def test_wrong_input_is_one_sentence(arguments, sentence, tmp_path):
    with pytest.raises(SystemExit) as ended:
        command.main([*arguments, "--cache", str(tmp_path / "cache")])
    assert str(ended.value).startswith(sentence) and "\n" not in str(ended.value)
    assert not (tmp_path / "cache").exists()


def test_weights_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "JOINT_WEIGHTS", tmp_path / "joint.safetensors")
    with pytest.raises(SystemExit, match=r"joint\.safetensors are not there"):
        command.main([])


def test_parts_are_run_and_the_page_is_written(monkeypatch, tmp_path):
    runs = []

    def part(name):
        return lambda lab: runs.append((name, lab.scenes, lab.steps)) or Section(name, [f"of {name}"])

    monkeypatch.setattr(command, "PARTS", {name: part(name) for name in ("one", "two")})
    settings = ["--scenes", "3", "--in", str(tmp_path), "--cache", "cache", "--docs", "docs"]
    command.main(["two", *settings])
    assert "## one" not in (tmp_path / "docs/validation.md").read_text()
    command.main(["one", *settings])
    text = (tmp_path / "docs/validation.md").read_text()
    assert text.index("## one") < text.index("## two") and "`scripts/validate --scenes 3` made this page" in text
    assert runs == [("two", 3, command.STEPS), ("one", 3, command.STEPS)]


def test_an_interrupt_is_one_sentence(monkeypatch, tmp_path):
    def interrupted(lab):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "PARTS", {"one": interrupted})
    with pytest.raises(SystemExit, match=r"Interrupted; run the same command again"):
        command.main(["--cache", str(tmp_path)])


def test_the_script_hands_its_arguments_on():
    made = subprocess.run([ROOT / "scripts/validate", "--scenes", "0"], capture_output=True, text=True)
    assert made.returncode == 1
    assert made.stderr.strip().splitlines()[-1] == "--scenes is 0: give 2 to 64."
