import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from prefkit.errors import MissingExtraError
from prefkit.scoring.config import ScoreConfig
from prefkit.scoring.registry import open_scorer, scorer_id
from tests.scoring.builders import outcome

CONFIG: TypeAdapter[ScoreConfig] = TypeAdapter(ScoreConfig)


@pytest.mark.parametrize(
    ("block", "completion", "score"),
    [
        ({"kind": "verifier", "name": "math"}, "The answer is 4.", 1.0),
        ({"kind": "verifier", "name": "exact"}, "4", 1.0),
        ({"kind": "verifier", "name": "regex", "pattern": "^4$"}, "5", 0.0),
        ({"kind": "verifier", "name": "length", "max": 3}, "12345", 0.0),
    ],
)
def test_registry_opens_the_scorer_of_a_block(block: dict[str, object], completion: str, score: float) -> None:
    assert outcome(open_scorer(CONFIG.validate_python(block), Path()), completion, "4") == score


def test_registry_names_the_extra_of_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prefkit\[verify\]'"):
        open_scorer(CONFIG.validate_python({"kind": "verifier", "name": "math"}), Path())


def test_scorer_id_ignores_how_fast_and_names_what() -> None:
    base = {"kind": "verifier", "name": "math"}
    variants = (
        {},
        {"batch_size": 7, "workers": 3, "aspect": "right", "repeats": 2},
        {"cpu_seconds": 5},
        {"cpu_seconds": 6},
    )
    same, faster, spelled_out, other = (scorer_id(CONFIG.validate_python(base | v), Path()) for v in variants)
    assert same == faster == spelled_out != other


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from prefkit.scoring.config import MathVerifier\n"
        "from prefkit.scoring.registry import scorer_id\n"
        "c = MathVerifier(kind='verifier', name='math'); scorer_id(c, Path());"
        "sys.exit(any(m in sys.modules for m in ('torch', 'sympy', 'math_verify', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
