import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefkit.errors import RecipeError
from prefkit.scoring.config import PythonScorer as PythonScorerConfig
from prefkit.scoring.protocol import Score, ScoreFailure, Scorer
from prefkit.scoring.registry import open_scorer, scorer_id
from tests.scoring.builders import outcome, outcomes, request, requests, rows

NAMES = ("my_rules", "my_package", "my_package.rules")


@pytest.fixture(autouse=True)
def modules_forgotten() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in NAMES:
        sys.modules.pop(name, None)


def written(folder: Path, source: str, name: str = "my_rules.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    return folder


def config(path: str = "my_rules:score", **fields: object) -> PythonScorerConfig:
    return PythonScorerConfig.model_validate({"kind": "python", "path": path, "aspect": "quality"} | fields)


def scorer_of(folder: Path, body: str, **fields: object) -> Scorer:
    """A scorer that is a function with this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    written(folder, f"def score(prompt, completion, **rest):\n{lines}")
    return open_scorer(config(**fields), folder)


def test_python_function_gets_prompt_completion_inputs_and_arguments(tmp_path: Path) -> None:
    scorer = scorer_of(
        tmp_path,
        "return (prompt, completion, rest) == ([{'role': 'user', 'content': 'What is it?'}], 'x', "
        "{'answer': 'a', 'source': 's', 'weight': 2})",
        read=["answer", "source"],
        arguments={"weight": 2},
    )
    assert outcomes(scorer, [request("x", "a", source="s")]) == [1.0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 0.25", 0.25),
        ("return -3", -3.0),
        ("return True", 1.0),
        ("import numpy as np\nreturn np.float32(0.5)", 0.5),
        ("return None", "undecided"),
        ("return float('nan')", "unparsable"),
        ("return float('inf')", "unparsable"),
        ("return 10**400", "unparsable"),
        ("return 'good'", "unparsable"),
        ("return [1.0]", "unparsable"),
        ("raise KeyError('grade')", "unparsable"),
        ("raise TimeoutError('slow')", "timeout"),
        ("raise ConnectionResetError('gone')", "connection"),
    ],
)
def test_python_result_is_a_score_or_a_named_failure(tmp_path: Path, body: str, expected: float | str) -> None:
    assert outcome(scorer_of(tmp_path, body), "x", None) == expected


def test_python_fault_in_one_row_leaves_its_siblings_alone(tmp_path: Path) -> None:
    scorer = scorer_of(tmp_path, "return 1 / len(completion)")
    scored = rows(scorer.score(requests(("ab", None), ("", None), ("abcd", None))))
    assert [row.score for row in scored if isinstance(row, Score)] == [0.5, 0.25]
    (failed,) = [row.detail for row in scored if isinstance(row, ScoreFailure)]
    assert failed == "ZeroDivisionError: division by zero"


def test_python_failure_names_the_value(tmp_path: Path) -> None:
    (row,) = rows(scorer_of(tmp_path, "return 'good'").score([request("x")]))
    assert isinstance(row, ScoreFailure)
    assert row.detail is not None
    assert "'good'" in row.detail


def test_python_no_requests_give_no_rows(tmp_path: Path) -> None:
    assert list(scorer_of(tmp_path, "return 1").score([])) == []


@pytest.mark.parametrize(
    ("source", "path", "told"),
    [
        ("", "my_ruels:score", "no module 'my_ruels'"),
        ("def score_it(p, c): ...", "my_rules:score_ti", "did you mean 'score_it'"),
        ("score = 3", "my_rules:score", "expected a function"),
        ("import no_such_library", "my_rules:score", "no_such_library"),
        ("def score(:", "my_rules:score", "SyntaxError"),
        ("raise RuntimeError('no licence')", "my_rules:score", "no licence"),
    ],
)
def test_python_path_that_leads_nowhere_is_one_line(tmp_path: Path, source: str, path: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told) as error:
        open_scorer(config(path), written(tmp_path, source))
    assert "\n" not in str(error.value)


def test_python_module_in_a_package_beside_the_recipe_is_found(tmp_path: Path) -> None:
    written(tmp_path, "", "my_package/__init__.py")
    written(tmp_path, "LIMIT = 7", "my_package/limits.py")
    written(tmp_path, "from .limits import LIMIT\ndef score(p, c, answer): return LIMIT", "my_package/rules.py")
    assert outcome(open_scorer(config("my_package.rules:score"), tmp_path), "x", None) == 7.0


def test_python_edited_file_has_another_id_and_is_executed_anew(tmp_path: Path) -> None:
    # Same size, same second: a byte-code cache would not notice.
    seen = []
    for number in (1, 2):
        written(tmp_path, f"def score(p, c, answer): return {number}")
        seen.append((scorer_id(config(), tmp_path), outcome(open_scorer(config(), tmp_path), "x", None)))
    assert [score for _, score in seen] == [1.0, 2.0]
    assert seen[0][0] != seen[1][0]


def test_python_stated_revision_stands_for_the_file(tmp_path: Path) -> None:
    ids = []
    for number, revision in ((1, "a"), (2, "a"), (2, "b")):
        written(tmp_path, f"def score(p, c, answer): return {number}")
        ids.append(scorer_id(config(revision=revision), tmp_path))
    assert ids[0] == ids[1] != ids[2]


def test_python_identity_is_the_content_not_the_folder(tmp_path: Path) -> None:
    here, there = (written(tmp_path / name, "def score(p, c, answer): return 1") for name in ("here", "there"))
    assert scorer_id(config(), here) == scorer_id(config(), there)


def test_python_file_edited_between_plan_and_opening_is_refused(tmp_path: Path) -> None:
    planned = scorer_id(config(), written(tmp_path, "def score(p, c, answer): return 1"))
    written(tmp_path, "def score(p, c, answer): return 2")
    with pytest.raises(RecipeError, match="changed since"):
        open_scorer(config(), tmp_path, planned)


def test_python_two_files_of_one_name_are_never_confused(tmp_path: Path) -> None:
    first, second = (written(tmp_path / str(n), f"def score(p, c, answer): return {n}") for n in (1, 2))
    assert outcome(open_scorer(config(), first), "x", None) == 1.0
    with pytest.raises(RecipeError, match="rename"):
        open_scorer(config(), second)
