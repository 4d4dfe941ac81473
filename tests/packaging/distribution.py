"""What the distribution consists of, read from its files, and programs run from outside of this process."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "prefkit",
    "trainers/prefkit_trainers",
    "annotate/prefkit_annotate",
    "cards/prefkit_cards",
)
MODEL_LIBRARIES = {"argilla", "datasets", "torch", "transformers", "trl", "vllm"}
HEAVY = MODEL_LIBRARIES | {"lance", "numpy", "pandas", "polars", "pyarrow", "pydantic"}


def module_names() -> list[str]:
    return sorted(
        ".".join(file.relative_to((ROOT / package).parent).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    )


def needs_models(module: str) -> bool:
    """Whether a module may import torch at its top."""
    return module.startswith(("prefkit.engines.", "prefkit_trainers."))


def output(command: Sequence[str | Path], cwd: Path = ROOT) -> str:
    """What a program says; fails with everything it said when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running `code`."""
    report = f"{code}\nimport sys\nprint(*(name for name in {sorted(HEAVY)} if name in sys.modules))"
    return set(output([sys.executable, "-c", report]).split())
