"""What ComfyUI's registry and its users' machines get: whole, without what scanners stop at, checked by real tools."""

import ast
import re
import struct
import textwrap
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import registry
from registry import RegistryError, shipped, tracked

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/i2am-comfy/i2am"
RAW = "https://raw.githubusercontent.com/i2am-comfy/i2am/main/"
# Calls, and modules and functions, by which code or commands from elsewhere could run, or data leave the machine.
CALLS = re.compile(r"\b(eval|exec|__import__)\s*\(|(?<!re\.)\bcompile\s*\(")
MODULES = re.compile(
    r"\b(subprocess|pickle|marshal|base64|ctypes|socket|urllib|httpx|importlib)\b|\brequests\.\w|import requests"
)
FUNCTIONS = re.compile(r"\b(os\.system|os\.popen|torch\.load|torch\.hub)\b")
CLONED = f"git clone {REPOSITORY}"  # a section with this speaks of the repository, not of what is installed
TOP = "|".join(sorted({re.escape(name.split("/")[0]) for name in tracked()}))  # of the repository


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def python_files():
    return [name for name in shipped() if name.endswith(".py")]


# Names and contents


def test_file_names_are_plain():
    """No spaces or parentheses, which some unpackers and command lines trip over; but blueprints are called so."""
    odd = [name for name in tracked() if not re.fullmatch(r"[A-Za-z0-9._/-]+", name)]
    assert odd == ["subgraphs/Watch a reference.json"]


@pytest.mark.parametrize("pattern", [CALLS, MODULES, FUNCTIONS], ids=["calls", "modules", "functions"])
def test_nothing_that_a_scanner_stops_at(pattern):
    """Scanners search the text: ``model.eval()`` counts as well as ``eval()``, and a comment as well as code."""
    lines = [
        f"{name}:{number}: {line.strip()}"
        for name in shipped()
        if name.endswith((".py", ".js", ".mjs"))
        for number, line in enumerate(text(name).splitlines(), 1)
        if pattern.search(line)
    ]
    assert lines == []


def test_shipped_modules_import_only_what_ships():
    names = set(shipped())
    missing = []
    for name in python_files():
        for statement in ast.walk(ast.parse(text(name))):
            if isinstance(statement, ast.ImportFrom) and statement.level:
                folder = PurePosixPath(name).parents[statement.level - 1]
                base = folder.joinpath(*(statement.module or "").split("."))
                targets = [base] if statement.module else [base / alias.name for alias in statement.names]
                missing += [f"{name}: {t}" for t in targets if not {f"{t}.py", f"{t}/__init__.py"} & names]
    assert missing == [], "not tracked by git (git add), or left out by .comfyignore"


# What texts point to


def named_paths(written):
    """Paths of this repository, and modules to run, that a text names."""
    plain = re.sub(r"\[([^\]]+)\]: https?://\S+|https?://\S+", "", written)
    for path in re.findall(rf"(?<![\w./-])((?:{TOP})(?:/[\w.-]+)*)(?![\w/*-])", plain):
        if "/" in path or "." in path:
            yield path.rstrip("./")
    for module in re.findall(r"python -m ([\w.]+)", plain):
        path = module.replace(".", "/")
        yield f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__main__.py"


def messages(name):
    """The strings of a Python file that are no docstrings: what its nodes may say."""
    tree = ast.parse(text(name))
    bodies = [node.body for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def sections_for_users():
    """README without what it says of a clone of the repository; and names of links, which lead to addresses."""
    readme = text("README.md")
    addresses = re.findall(r"^\[([^\]]+)\]: https://", readme, re.MULTILINE)
    for section in re.split(r"^## ", readme, flags=re.MULTILINE):
        if CLONED not in section:
            for label in addresses:
                section = section.replace(f"[{label}]", "")
            yield section


def test_paths_that_users_read_of_are_in_the_zip():
    pages = [
        name for name in shipped() if name.startswith(("web/docs/", "locales/")) and name.endswith((".md", ".json"))
    ]
    texts_of = {name: [text(name)] for name in pages} | {name: list(messages(name)) for name in python_files()}
    texts_of["README.md"] = list(sections_for_users())
    named = {(name, path) for name, texts in texts_of.items() for one in texts for path in named_paths(one)}
    assert ("i2am_core/__main__.py", "i2am_core/__main__.py") in named  # it is looked for as it is written
    assert ("web/docs/I2AM_Save.md", "i2am_core/__main__.py") in named
    there = {str(place) for name in shipped() for place in (PurePosixPath(name), *PurePosixPath(name).parents)}
    assert sorted((name, path) for name, path in named if path not in there) == []


def links(name):
    """Where a page leads to: links as they are written, and those that it only names but does not define."""
    prose = re.sub(r"```.*?```", "", text(name), flags=re.DOTALL)
    defined = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", prose, re.MULTILINE))
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)
    yield from defined.values()
    yield from set(re.findall(r"\[([\w./-]+\.md)\](?![(:])", prose)) - set(defined)


def leads_somewhere(page, link, names):
    """To a file in the zip, or to an address; one in this repository must be of something that it has."""
    here = re.match(rf"(?:{re.escape(REPOSITORY)}/(?:blob|tree)/main/|{re.escape(RAW)})(.+)", link)
    if here:
        return any(name == here[1] or name.startswith(here[1] + "/") for name in tracked())
    if link.startswith(("https://", "#")):
        return True
    base = ROOT / "web/docs" if page.startswith("web/docs/") else (ROOT / page).parent  # as ComfyUI reads help pages
    return base.joinpath(link.partition("#")[0]).resolve().relative_to(ROOT).as_posix() in names


def test_links_of_shipped_pages_lead_somewhere():
    names = set(shipped())
    pages = [name for name in names if name.endswith(".md")]
    followed = [(page, link) for page in pages for link in links(page)]
    assert ("README.md", f"{REPOSITORY}/blob/main/docs/mechanisms.md") in followed
    assert [(page, link) for page, link in followed if not leads_somewhere(page, link, names)] == []


def test_pages_of_the_repository_name_what_is_there():
    """Those for developers, and what GitHub and pre-commit run. Examples of docs/adding.md are not there."""
    example = re.compile(r"concentration|Concentration|test_look|halved")
    there = {str(place) for name in tracked() for place in (PurePosixPath(name), *PurePosixPath(name).parents)}
    made = {"out", ".host"}
    pages = [
        name for name in tracked() if re.match(r"(docs|benchmarks|demo)/.*\.md|\.github/|\.pre-commit|[A-Z]+\.md", name)
    ]
    named = {(page, path) for page in pages for path in named_paths(text(page)) if path.split("/")[0] not in made}
    assert (".github/workflows/publish.yml", "scripts/release.py") in named
    assert sorted((page, path) for page, path in named if path not in there and not example.search(path)) == []


# What the registry is told


def png_size(name):
    head = (ROOT / name).read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", name
    return struct.unpack(">II", head[16:24])


def test_icon_and_banner_are_as_the_registry_wants_them():
    """The icon square and at most 400 px, the banner 21:9; both in the repository, and not in the zip."""
    comfy = tomllib.loads(text("pyproject.toml"))["tool"]["comfy"]
    assert set(comfy) == {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"}
    icon, banner = (comfy[key].removeprefix(RAW) for key in ("Icon", "Banner"))
    width, height = png_size(icon)
    assert width == height <= 400
    width, height = png_size(banner)
    assert width * 9 == height * 21
    assert {icon, banner} <= set(tracked()) - set(shipped())


def test_the_changelog_has_the_version():
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert f"\n## {version}\n" in text("CHANGELOG.md")


# scripts/registry.py, with tools that behave as we like


def tool(folder, name, body):
    path = folder / name
    path.write_text(f"#!/usr/bin/env python3\nimport sys\n{textwrap.dedent(body)}")
    path.chmod(0o755)


GOOD = """
    import subprocess, zipfile
    if sys.argv[-1] == "validate":
        print("All validation checks passed successfully")
    else:
        names = subprocess.run(["git", "ls-files"], capture_output=True, text=True).stdout.splitlines()
        with zipfile.ZipFile("node.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in set(names) & set(open({names!r}).read().splitlines()):
                archive.write(name)
"""


@pytest.fixture
def tools(tmp_path):
    (tmp_path / "names").write_text("\n".join(shipped()))
    tool(tmp_path, "comfy", GOOD.format(names=str(tmp_path / "names")))
    tool(tmp_path, "comfy-test", "print('0 error(s), 0 warning(s)')")
    return tmp_path


def test_a_clean_pack_gives_its_zip(tools):
    (tools / "node.zip").write_bytes(registry.check(tools))
    with zipfile.ZipFile(tools / "node.zip") as archive:
        assert sorted(archive.namelist()) == sorted(shipped())
    assert not (ROOT / "node.zip").exists()


def test_a_zip_with_other_files_is_refused(tools):
    (tools / "names").write_text("\n".join([*shipped()[1:], "scripts/registry.py"]))
    with pytest.raises(RegistryError, match=r"do not agree on .*scripts/registry\.py"):
        registry.check(tools)


def test_a_zip_that_is_too_large_is_refused(tools, monkeypatch):
    monkeypatch.setattr(registry, "LARGEST", 2**20)
    with pytest.raises(RegistryError, match=r"The zip has \d+\.\d MiB, more than 1\.0: leave out what nobody needs"):
        registry.check(tools)


@pytest.mark.parametrize(
    "name, body, message",
    [
        ("comfy", "print('Security warnings found:')", "`comfy node validate` has found something"),
        ("comfy", "sys.exit(1)", "`comfy --skip-prompt node validate` failed"),
        ("comfy-test", "sys.exit(1)", "`comfy-test lint --strict"),
        ("comfy-test", "print('Warnings (non-blocking): torch.load()')", "`comfy-test lint` has a warning"),
    ],
)
def test_what_a_tool_finds_is_a_failure(tools, name, body, message):
    tool(tools, name, body)
    with pytest.raises(RegistryError, match=re.escape(message)):
        registry.check(tools)
