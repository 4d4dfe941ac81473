"""The wheel, as somebody gets it who installs nothing but `prefkit`: core dependencies, no torch, no source tree."""

import json
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.packaging.distribution import PACKAGES, ROOT, module_names, needs_models, output

pytestmark = pytest.mark.timeout(1200)  # the core dependencies are 670 MB on disk, and a first run downloads them

RECIPE = """\
name: tiny
prompts: {path: problems.jsonl, map: {prompt: question}}
sample: {backend: fake, n: 8}
score:
  - {kind: verifier, name: regex, pattern: 'is -?[0-9]*[02468]\\.'}
select: {kind: best_vs_worst}
"""
PAIRS = """
import prefkit
pairs = prefkit.Workspace.find().versions.newest("tiny").frame().collect()
print(pairs.height, (pairs["chosen"] != pairs["rejected"]).all())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    output([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that holds the wheel and its core dependencies."""
    environment = tmp_path_factory.mktemp("clean")
    output([sys.executable, "-m", "venv", environment], environment)
    output([environment / "bin/python", "-m", "pip", "install", "--quiet", "--no-compile", wheel], environment)
    return environment / "bin"


def test_wheel_holds_the_four_packages_typed_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    packages = {Path(package).name for package in PACKAGES}
    assert {name.split("/")[0] for name in names} == {*packages, "prefkit-0.1.0.dist-info"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_alone_imports_every_module_without_warning(clean: Path, tmp_path: Path) -> None:
    modules = [module for module in module_names() if not needs_models(module)]
    script = f"""
import sys
from importlib import import_module
from importlib.util import find_spec
assert find_spec("torch") is None
for module in {modules}:
    import_module(module)
print(import_module("prefkit").__file__)
"""
    where = output([clean / "python", "-W", "error", "-c", script], tmp_path)
    assert Path(where.strip()).is_relative_to(clean.parent)


def test_wheel_alone_answers_help(clean: Path, tmp_path: Path) -> None:
    assert "build" in output([clean / "prefkit", "--help"], tmp_path)


def test_wheel_alone_builds_a_dataset(clean: Path, tmp_path: Path) -> None:
    problems = [{"question": f"What is {a} + {a + 1}?"} for a in range(12)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    output([clean / "prefkit", "init"], tmp_path)
    assert "tiny@v1" in output([clean / "prefkit", "build", "recipe.yaml"], tmp_path)
    height, differ = output([clean / "python", "-c", PAIRS], tmp_path).split()
    assert 0 < int(height) <= len(problems)
    assert differ == "True"
