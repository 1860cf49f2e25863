"""The documents are true: links lead somewhere, commands exist, figures are the model's."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import typer
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
PACKAGES = ("lai_udf", "lai_backend", "lai_training", "lai_stac", "lai_service", "lai_demo")
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "demo/README.md",
    "docs/guides/openeo.md",
    "docs/guides/operator.md",
    "docs/guides/python.md",
    "docs/guides/scientist.md",
)
SCRIPTS = ("lai-udf", "lai-backend", "lai-train", "lai-service")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Addresses of package registries belong into nobody's repository, nor do paths of one machine.
# Spelled in pieces, so that this file does not hold them.
FORBIDDEN = (
    "files.python" + "hosted.org",
    "pypi" + ".org/simple",
    "/wor" + "k/",
    "/ro" + "ot/",
    "/home/" + "runner",
    "/Us" + "ers/",
)
MARKDOWN_FOLDERS = (".", ".github", "demo", "notebooks", "service", "stac_extension", "tests")
DECISIONS = ROOT / "docs" / "decisions"


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def markdown_files() -> list[Path]:
    found = [path for folder in MARKDOWN_FOLDERS for path in (ROOT / folder).glob("*.md")]
    for folder in ("docs", "training", "udf"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def named_commands(text: str) -> set[tuple[str, str]]:
    """Return (script, sub-command) for every `lai-udf run`, or `lai-udf run, graph`, in a text."""
    pattern = (
        rf"(?<![\w/.-])(?:\.venv/bin/)?({'|'.join(SCRIPTS)}) ([a-z][a-z0-9-]*(?:, [a-z0-9-]+)*)"
    )
    found = re.findall(pattern, "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```", text, re.M | re.S)))
    return {(script, command) for script, listed in found for command in listed.split(", ")}


def heading_anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown text."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    text = FENCE.sub("", document.read_text("utf-8"))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{document.name} links to {link}, which is not there"
        if anchor and path.suffix == ".md":
            anchors = heading_anchors(path.read_text("utf-8"))
            assert anchor in anchors, f"{document.name} links to {link}: no such heading"


def test_decisions_are_numbered_dated_and_listed() -> None:
    records = sorted(DECISIONS.glob("[0-9]*.md"))
    readme = (DECISIONS / "README.md").read_text("utf-8")
    assert [path.name for path in records] == re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", readme)
    numbers = {int(path.name[:4]) for path in records}
    folded = {int(number) for number in re.findall(r"(\d{4}) into \d{4}", readme)}
    assert sorted(numbers | folded) == list(range(1, max(numbers) + 1))
    assert not numbers & folded
    for path in records:
        title, _, status = path.read_text("utf-8").split("\n")[:3]
        assert title.startswith(f"# {path.name[:4]}. "), path.name
        assert re.match(r"\*(In force|Superseded by .+)\* · \d{4}-\d{2}-\d{2}", status), path.name


def test_the_homes_of_the_architecture_are_modules() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("## One home for each concept")[2].partition("\n## ")[0]
    named = re.findall(r"`(lai_\w+(?:\.\w+)*)`", table)
    assert len(named) >= 10
    missing = [name for name in named if importlib.util.find_spec(name) is None]
    assert not missing


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "demo/README.md", "tests/README.md"):
        text = (ROOT / name).read_text("utf-8")
        code = "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```", text, re.MULTILINE | re.DOTALL))
        named = set(re.findall(r"\bmake ([a-z]+)\b", code))
        assert named, f"{name} names no make target"
        assert named <= targets, f"{name} names make {sorted(named - targets)}"


def test_every_variable_of_make_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    table = re.findall(r"^\| `([A-Z`, ]+)` \|", (ROOT / "demo/README.md").read_text("utf-8"), re.M)
    variables = {name for cell in table for name in re.findall(r"[A-Z]{2,}", cell)}
    assert {"OUT", "SCALE", "OFFSET"} <= variables
    for name in variables:
        assert f"$({name})" in makefile, f"the Makefile does not read {name}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_command_has_a_line_of_help_that_is_not_cut(script: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=script)
    group = typer.main.get_command(entry.load())
    assert isinstance(group, typer.core.TyperGroup)
    for name, command in group.commands.items():
        assert not command.get_short_help_str().endswith("..."), name


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_in_the_documents_answers_help(script: str) -> None:
    """The script is run once as its user would; its commands are asked in this process."""
    path = Path(sys.executable).with_name(script)
    answer = subprocess.run(
        [path, "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, f"{script} --help: {answer.stderr[-500:]}"

    (entry,) = entry_points(group="console_scripts", name=script)
    texts = [(ROOT / name).read_text("utf-8") for name in DOCUMENTS]
    named = {
        command for text in texts for found, command in named_commands(text) if found == script
    }
    assert named, f"the documents name no command of {script}"
    for command in sorted(named):
        result = CliRunner().invoke(entry.load(), [command, "--help"])
        assert result.exit_code == 0, f"{script} {command} --help: {result.output[-500:]}"
        assert "Usage" in result.output


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_in_the_code_blocks_of_the_documents_exists(script: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=script)
    commands = typer.main.get_command(entry.load()).commands
    lines = [
        line
        for path in markdown_files()
        for block in FENCE.findall(path.read_text("utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    for line in lines:
        found = re.search(rf"(?<![\w.-]){script} ([a-z][\w-]*)([^#|]*)", line)
        if found is not None:
            parameters = commands[found[1]].params
            known = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
            unknown = set(re.findall(r"(?<=[\s\[])--[a-z][\w-]*", found[2])) - known
            assert not unknown, line


def test_the_openeo_lines_of_the_readme_are_python_that_calls_what_exists() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    (lines,) = [block for block in blocks if "openeo.connect" in block]
    compile(lines, "README.md", "exec")
    imports = re.findall(r"^from (lai_\w+(?:\.\w+)*) import (.+)$", lines, re.M)
    assert imports
    for module, names in imports:
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name)
    statements = [line for line in lines.splitlines() if line and "import" not in line]
    assert len(statements) <= 10, "ten lines are promised"


def test_the_figures_of_the_readme_are_those_of_the_shipped_model() -> None:
    from lai_udf.bundle import open_bundle

    refresh = load_script(ROOT / "docs" / "refresh.py")
    readme = (ROOT / "README.md").read_text("utf-8")
    refreshed = refresh.insert_figures(readme, refresh.format_figures(dict(open_bundle().contract)))
    assert readme == refreshed, "run: .venv/bin/python docs/refresh.py"


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_no_notebook_prints_a_missing_number_as_its_result(notebook: Path) -> None:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert not re.search(r"\bnan\b", printed)  # tables print NaN


def test_the_picture_of_the_readme_is_small() -> None:
    assert 10_000 < (ROOT / "docs" / "field.png").stat().st_size <= 200_000


def test_the_readme_is_read_in_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 800


def test_no_tracked_file_names_a_registry_or_a_machine() -> None:
    found = []
    for path in tracked_files():
        if path.suffix in {".zip", ".png", ".tif", ".npz"}:
            continue
        text = path.read_text("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word in text]
    assert not found


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_sorted_and_importable(name: str) -> None:
    package = importlib.import_module(name)
    if not hasattr(package, "__all__"):
        pytest.skip(f"{name} lists no public names yet")
    # as ruff sorts them: constants, classes, functions

    def place(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert list(package.__all__) == sorted(package.__all__, key=place)
    for public in package.__all__:
        assert getattr(package, public) is not None


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text[:200]
    assert "END OF TERMS AND CONDITIONS" in text


def test_citation_agrees_with_the_project() -> None:
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["references"][0]["doi"] in (ROOT / "README.md").read_text("utf-8")
