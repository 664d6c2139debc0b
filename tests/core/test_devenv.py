"""The set-up's own machinery: what is ready is left alone, what is not is made whole, and errors are one sentence."""

import ast
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from devenv import HostError, checks, given, host, node, one_sentence_errors, own, packages, places, prepare, stages


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "HOST", tmp_path)
    return tmp_path


def test_a_stage_runs_once_for_its_inputs_and_again_after_a_failure(folder):
    runs = []

    def build():
        runs.append(len(runs))
        if len(runs) == 2:
            raise HostError("No.")

    stages.stage("one", folder, lambda: "pin 1", build)
    stages.stage("one", folder, lambda: "pin 1", build)
    assert runs == [0]
    with pytest.raises(HostError):
        stages.stage("one", folder, lambda: "pin 2", build)
    stages.stage("one", folder, lambda: "pin 2", build)
    stages.stage("one", folder, lambda: "pin 2", build)
    assert runs == [0, 1, 2]
    stages.stage("one", folder, lambda: "pin 1", build)
    assert runs == [0, 1, 2, 3]


def test_what_is_put_replaces_all_that_was_there(folder):
    for name in ("old", "new"):
        (folder / name).mkdir()
        (folder / name / f"{name}.txt").write_text(name)
    stages.put(folder / "new", folder / "old")
    assert [path.name for path in folder.rglob("*.txt")] == ["new.txt"]
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_the_inputs_of_a_folder_are_its_names_and_texts(folder):
    (folder / "a.py").write_text("1")
    before = stages.texts(folder)
    (folder / "a.py").rename(folder / "b.py")
    assert stages.texts(folder) != before
    (folder / "b.py").rename(folder / "a.py")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"\xff")
    assert stages.texts(folder) == before


def test_uv_gets_what_pip_is_configured_with(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a.example/simple\nfind-links = /one\n    /two\ntimeout = 7\n"
        "[install]\ntimeout = 8\n[list]\nformat = json\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://b.example/simple https://c.example/simple")
    packages.uv_env.cache_clear()
    env = packages.uv_env()
    packages.uv_env.cache_clear()
    assert env["UV_DEFAULT_INDEX"] == "https://a.example/simple"
    assert env["UV_INDEX"] == "https://b.example/simple https://c.example/simple"
    assert env["UV_FIND_LINKS"] == "/one,/two"
    assert env["UV_HTTP_TIMEOUT"] == "8"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://d.example/simple")
    assert packages.uv_env()["UV_DEFAULT_INDEX"] == "https://d.example/simple"
    packages.uv_env.cache_clear()


def test_an_index_that_cannot_be_reached_is_one_sentence(folder, monkeypatch):
    env = packages.uv_env() | {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    env = {name: value for name, value in env.items() if name not in ("UV_INDEX", "UV_FIND_LINKS")}
    monkeypatch.setattr(packages, "uv_env", lambda: env | {"UV_NO_CACHE": "1"})
    with pytest.raises(HostError, match=r"^one could not be installed \(.*refused.*\): the package index cannot be"):
        packages.uv_install("one", "--python", sys.executable, "--dry-run", "--reinstall", "einops==0.0.1")


def test_a_half_installed_package_is_discarded(tmp_path):
    site = tmp_path / "lib" / "python3.12" / "site-packages"
    for name in ("whole", "half"):
        (site / f"{name}-1.dist-info").mkdir(parents=True)
    (site / "whole-1.dist-info" / "INSTALLER").touch()
    packages.discard_half_installed(tmp_path)
    assert [path.name for path in site.iterdir()] == ["whole-1.dist-info"]


def test_an_environment_that_was_moved_is_made_again(folder):
    """Its programs name it by its path."""
    for name in ("here", "there"):
        packages.make_environment("one", folder / name)
        assert str(folder / name) in (folder / name / "bin" / "activate").read_text()
        if name == "here":
            (folder / "here").rename(folder / "there")


def test_all_that_is_installed_is_pinned():
    for file in places.SCRIPTS.glob("requirements-*.txt"):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert lines and all("==" in line.split(";")[0] for line in lines), file.name


def test_node_is_new_enough():
    version = subprocess.run([node.PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    assert int(version[1:].split(".")[0]) >= 20


def test_a_python_that_has_no_pinned_packages_is_refused_before_anything_is_made(folder, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(own, "sys", SimpleNamespace(version_info=(3, 9, 18)))
    monkeypatch.setattr(host, "make_uv", lambda: pytest.fail("something was made"))
    with pytest.raises(HostError, match=r"^Python 3\.9 runs this script, but the pinned packages need Python 3\.10 to"):
        prepare()


def test_a_folder_that_is_no_comfyui_is_named(tmp_path):
    with pytest.raises(HostError, match=r"has no main\.py"):
        given.check_given(tmp_path, tests=False, evaluation=False)
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.3.59"')
    with pytest.raises(HostError, match=r"0\.3\.59, expected 0\.3\.60 or newer"):
        given.check_given(tmp_path, tests=False, evaluation=False)


def test_a_python_that_lacks_a_module_is_told_apart_from_one_that_fails(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise OSError('no such library')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(HostError, match="pip install no_such_module "):
        given.check_modules(sys.executable, ("no_such_module",), "the tests")
    with pytest.raises(HostError, match=r"cannot import broken_module.*no such library"):
        given.check_modules(sys.executable, ("broken_module",), "the tests")


def test_a_placeholder_is_imported_and_looked_through_but_not_called():
    code = """if True:
        import torchvision.transforms.v2.functional as functional
        from torchvision import transforms
        from torchvision.models.optical_flow import raft_large
        import torchaudio, importlib.util
        class Mine(transforms.Compose): pass
        assert transforms.v2.functional is functional and transforms.InterpolationMode.BICUBIC
        assert importlib.util.find_spec("torchvision.ops") and not hasattr(torchaudio, "__file_of_ours__")
        try:
            raft_large()
        except RuntimeError as error:
            print([str(error)])
    """
    env = os.environ | {"PYTHONPATH": str(places.SCRIPTS / "devenv" / "placeholders"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout)[0].startswith("torchvision.models.optical_flow.raft_large is not on this host")


@pytest.mark.parametrize("own", [True, False])
def test_what_python_compiles_lies_in_a_folder_of_ours_and_nothing_beside_the_modules(tmp_path, monkeypatch, own):
    monkeypatch.setattr(host, "BYTECODE", tmp_path / "bytecode")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "one.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(modules))
    env = host.Host(places.PYTHON, places.COMFYUI, own=own).env()
    subprocess.run([sys.executable, "-c", "import one"], env=env, check=True)
    assert [path.name for path in modules.iterdir()] == ["one.py"]
    assert list((tmp_path / "bytecode").rglob("one.*.pyc"))


@pytest.mark.parametrize(("error", "said"), [(HostError("Do this."), "Do this."), (OSError("full"), "refused (full)")])
def test_a_script_ends_with_one_sentence(error, said, capsys):
    with pytest.raises(SystemExit) as end, one_sentence_errors():
        raise error
    assert end.value.code == 1
    assert said in capsys.readouterr().err


def test_sigterm_stops_a_script_and_what_it_runs(tmp_path):
    code = f"""if True:
        import subprocess, sys
        sys.path.insert(0, {str(places.SCRIPTS)!r})
        from pathlib import Path
        from devenv import one_sentence_errors, processes
        class Popen(subprocess.Popen):
            def wait(self, *timeout):
                print(self.pid, flush=True)
                return super().wait(*timeout)
        processes.LOGS, subprocess.Popen = Path({str(tmp_path)!r}), Popen
        with one_sentence_errors():
            processes.run(["sleep", "60"], "child")
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    script = subprocess.Popen([sys.executable, "-c", code], **pipes)
    child = int(script.stdout.readline())
    os.kill(child, 0)
    script.send_signal(signal.SIGTERM)
    assert script.communicate(timeout=30)[1].startswith("Interrupted; run the same command again")
    assert script.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def met(own, other):
    """A program that ends well where another one runs at the same time."""
    code = f"""
import pathlib, time
pathlib.Path({own!r}).touch()
while not pathlib.Path({other!r}).exists():
    time.sleep(0.01)
print("met", {own!r})"""
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("failing", [(), ("one",), ("two",), ("one", "two")])
def test_two_parts_run_at_a_time_and_each_may_fail(tmp_path, capfd, failing):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    commands = {"one": met(one, two), "two": met(two, one)}
    for name in failing:
        commands[name][-1] += "; raise SystemExit(3)"
    if failing:
        with pytest.raises(HostError) as failure:
            checks.together(commands, dict(os.environ))
        assert str(failure.value) == "; ".join(f"{name} failed: exit code 3" for name in failing) + "."
    else:
        checks.together(commands, dict(os.environ))
    titles = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("   ")]
    assert [line for line in titles if line] == ["== one", f"met {one}", "== two", f"met {two}"]
