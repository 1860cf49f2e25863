"""The recipes of other packagers, the workflows and the locks agree with pyproject.toml."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-docs.lock")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pinned(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package that a lock pins (several: by Python or platform)."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE
    ):
        versions.setdefault(name, set()).add(version)
    return versions


def lowest(requirement: str) -> tuple[str, str]:
    parsed = Requirement(requirement)
    return parsed.name, str(parsed.specifier)


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for(pyproject: dict[str, Any]) -> None:
    text = (ROOT / "packaging/conda/recipe.yaml").read_text("utf-8")
    recipe = yaml.safe_load(text)
    project = pyproject["project"]
    asked = [line.partition(" ") for line in recipe["requirements"]["run"]]

    assert recipe["context"]["version"] == project["version"]
    python, *packages = [(name, limits) for name, _, limits in asked]
    assert sorted(python[1].split(",")) == sorted(project["requires-python"].split(","))
    assert sorted(packages) == sorted(lowest(line) for line in project["dependencies"])


def test_the_conda_recipe_starts_the_commands_of_the_wheel(pyproject: dict[str, Any]) -> None:
    recipe = yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text("utf-8"))
    scripts = {f"{name} = {where}" for name, where in pyproject["project"]["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) <= scripts


def test_the_workflow_tests_every_python_that_is_advertised(pyproject: dict[str, Any]) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    advertised = re.findall(r"Python :: (3\.\d+)'", str(pyproject["project"]["classifiers"]))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == advertised


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_with_checksums_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert all("==" in one and "--hash=sha256:" in one for one in requirements)
    assert "://" not in text


def test_the_locks_are_of_one_resolution() -> None:
    versions = [pinned(lock) for lock in LOCKS]
    for smaller in versions[:2]:
        for larger in versions:
            for name in smaller.keys() & larger.keys():
                assert smaller[name] & larger[name], name
    assert versions[0].keys() <= versions[1].keys()


def test_the_demo_needs_neither_tensorflow_nor_tools() -> None:
    heavy = {"tensorflow", "keras", "onnx", "numba", "progeosail", "mypy", "pytest", "mkdocs"}
    assert not heavy & pinned("requirements.lock").keys()


def test_the_lock_holds_what_the_wheel_asks_for(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    wanted = {lowest(line)[0] for line in pyproject["project"]["dependencies"]}
    assert wanted | {lowest(line)[0] for line in extras["service"]} <= pinned(LOCKS[0]).keys()
    everything = {lowest(line)[0] for lines in extras.values() for line in lines}
    assert everything <= pinned(LOCKS[1]).keys()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_a_lock_holds_what_its_packages_ask_for_in_turn(lock: str) -> None:
    names = {canonicalize_name(name) for name in pinned(lock)}
    missing = {
        f"{name} asks for {wanted.name}"
        for name in names
        for wanted in map(Requirement, _requires(name))
        if (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))
        and canonicalize_name(wanted.name) not in names
    }
    assert not missing


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # of another platform, or of a Python that is not this one
        return []
