"""From the name of a model to one that scores, or to one line that says why not."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from prefkit.errors import MissingExtraError, RecipeError, SourceError
from prefkit.shift.registry import Reference, open_reference, reference_id

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the policy that a test may damage."""
    return Path(shutil.copytree(POLICY, tmp_path / "model"))


def test_missing_folder_is_refused_as_a_reference():
    with pytest.raises(SourceError, match="reference '/no/such/folder' does not exist"):
        open_reference(Reference("/no/such/folder"))


def test_reference_without_a_chat_template_is_refused(folder: Path):
    (folder / "chat_template.jinja").unlink()
    for use in (open_reference, reference_id):
        with pytest.raises(SourceError, match=r"^reference .* has no chat template"):
            use(Reference(str(folder)))


def test_unknown_device_is_refused():
    pytest.importorskip("transformers")
    with pytest.raises(RecipeError, match=r"check\.device is 'tpuu'"):
        open_reference(Reference(str(POLICY), device="tpuu"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"architectures": ["Qwen3ForSequenceClassification"]},
            "is a Qwen3ForSequenceClassification, expected a causal",
        ),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            "cannot be loaded as a causal language",
        ),
        (
            {"vocab_size": 100},
            r"cannot be loaded as a causal language|tokenizer of \d+ tokens, expected at most the 100",
        ),
    ],
)
def test_model_that_is_no_causal_language_model_is_refused(folder: Path, config: dict[str, object], said: str):
    pytest.importorskip("transformers")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(SourceError, match=f"^reference .*{said}"):
        open_reference(Reference(str(folder), device="cpu"))


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_open_reference_without_torch_or_transformers_gives_the_pip_line(package: str, monkeypatch: pytest.MonkeyPatch):
    for name in [n for n in sys.modules if n.startswith("prefkit.engines")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prefkit\[transformers\]'"):
        open_reference(Reference(str(POLICY)))
