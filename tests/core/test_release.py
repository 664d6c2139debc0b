"""A release is refused, in a sentence, until version, changes and tag agree."""

import subprocess

import pytest
import release
from release import ReleaseError, main, notes, notes_of, version_of

PYPROJECT = '[project]\nname = "i2am"\nversion = "0.2.0"\n\n[tool.ruff]\ntarget-version = "py310"\n'
CHANGELOG = "# Changelog\n\n## 0.2.0\n\n- New.\n  More of it.\n\n## 0.1.0\n\n- Old.\n"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of which 0.2.0 could be released."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "All"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    return tmp_path


def test_notes_are_those_of_the_version(repository):
    assert notes() == ("0.2.0", "- New.\n  More of it.")
    assert notes("v0.2.0") == notes()


def test_notes_are_printed_for_the_workflow(repository, capsys):
    main(["--notes", "v0.2.0"])
    assert capsys.readouterr().out == "- New.\n  More of it.\n"


def test_another_tag_is_refused(repository):
    with pytest.raises(ReleaseError, match=r"v0\.3\.0 is not v0\.2\.0"):
        notes("v0.3.0")


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0rc1", ""])
def test_a_version_that_the_registry_would_not_take(version):
    with pytest.raises(ReleaseError, match=r"no version of the form 1\.2\.3"):
        version_of(PYPROJECT.replace("0.2.0", version))


def test_unreleased_changes_have_no_version_yet():
    with pytest.raises(ReleaseError, match=r"begins with 'Unreleased' where pyproject\.toml has 0\.2\.0"):
        notes_of(CHANGELOG.replace("## 0.2.0", "## Unreleased"), "0.2.0")


def test_a_version_without_changes():
    with pytest.raises(ReleaseError, match=r"says nothing of 0\.2\.0"):
        notes_of("# Changelog\n\n## 0.2.0\n\n## 0.1.0\n\n- Old.\n", "0.2.0")


def test_what_is_not_committed(repository):
    (repository / "more").touch()
    with pytest.raises(ReleaseError, match="not committed"):
        main([])


def test_a_version_that_was_released(repository):
    subprocess.run(["git", "tag", "v0.2.0"], cwd=repository, check=True)
    with pytest.raises(ReleaseError, match=r"a tag v0\.2\.0 already"):
        main([])


@pytest.mark.parametrize("code", [0, 1])
def test_the_zip_is_what_the_registrys_tools_let_through(repository, monkeypatch, tmp_path, capsys, code):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "registry.py").write_text(f"exit {code}\n")
    (tmp_path / "comfy").touch()
    for name, value in (("PYTHON", "sh"), ("TOOLS", tmp_path), ("OUT", tmp_path / "out")):
        monkeypatch.setattr(release, name, value)
    monkeypatch.setattr(release, "check_git", lambda version: None)
    if code:
        with pytest.raises(ReleaseError, match="The zip was not made"):
            main([])
    else:
        main([])
        assert "i2am-0.2.0.zip is what the registry would get" in capsys.readouterr().out


def test_tools_that_are_missing(repository, monkeypatch, tmp_path):
    monkeypatch.setattr(release, "TOOLS", tmp_path / "none")
    with pytest.raises(ReleaseError, match="not set up"):
        main([])


def test_another_branch_is_refused(repository):
    subprocess.run(["git", "switch", "-qc", "side"], cwd=repository, check=True)
    with pytest.raises(ReleaseError, match="This is not the branch main"):
        main([])
