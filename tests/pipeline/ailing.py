"""A recipe over a small policy with nothing wrong with it, and faults that can be planted in it one by one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

from prefkit.pipeline.doctor.checkup import Checkup, checkup
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.recipe import Recipe

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
PROMPTS = 40
TEST_PROMPTS = 10
WORDS = (
    "box", "coin", "row", "apple", "team", "game", "hour", "page", "road", "tree", "lamp", "bird", "stone", "cup",
    "door", "shelf", "ship", "field", "day", "hat",
)  # fmt: skip
Row = dict[str, object]


def sentence(number: int, words: int = 16) -> str:
    """Words and numbers that no other number gives."""
    random = Random(number)
    return " ".join(random.choice(WORDS) if i % 3 else str(random.randrange(10, 90)) for i in range(words))


def rows() -> list[Row]:
    """Different questions with their answers, ten of them held out."""
    return [
        {"prompt": f"Say: {sentence(i)}?", "answer": str(i), "split": "test" if i < TEST_PROMPTS else "train"}
        for i in range(PROMPTS)
    ]


def policy(folder: Path, template: str | None = None) -> str:
    """The policy's folder; a copy with another chat template, where one is given."""
    if template is None:
        return str(POLICY)
    shutil.copytree(POLICY, folder / "policy")
    (folder / "policy" / "chat_template.jinja").write_text(template)
    return str(folder / "policy")


def recipe(folder: Path, problems: Sequence[Row], template: str | None = None, **blocks: object) -> Recipe:
    """The recipe over these problems, in a folder that now holds them; `blocks` replace or add to its blocks."""
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    base: dict[str, object] = {
        "name": "small",
        "prompts": {"path": "problems.jsonl"},
        "policy": {"model": policy(folder, template)},
        "sample": {"backend": "transformers", "n": 4, "max_new_tokens": 40},
        "score": [{"kind": "verifier", "name": "exact"}],
        "select": {"kind": "correct_vs_incorrect"},
        "train": {"method": "dpo", "args": {"max_length": 160}},
    }
    return Recipe.model_validate({k: v for k, v in (base | blocks).items() if v is not None})


def found(
    folder: Path, problems: Sequence[Row] | None = None, template: str | None = None, **blocks: object
) -> Checkup:
    """What the doctor says of `recipe(...)`, without a workspace."""
    return checkup(recipe(folder, rows() if problems is None else problems, template, **blocks), folder)


def told(result: Checkup) -> list[tuple[str, Severity, int | None]]:
    """What was found, in short."""
    return [(f.check, f.severity, f.rows) for f in result.findings]


def only(result: Checkup) -> Finding:
    """The one finding there is."""
    assert len(result.findings) == 1, result.findings
    return result.findings[0]
