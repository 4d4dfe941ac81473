"""Whose weights: same content, same id; anything that decides a draw changes it."""

import os
import sys
from pathlib import Path

import pytest

from prefkit.errors import MissingExtraError, SourceError
from prefkit.sampling.policy import policy_id

FILES = {
    "model.safetensors": "weights",
    "config.json": "{}",
    "generation_config.json": "{}",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "chat_template.jinja": "{{ messages }}",
}


def model_folder(folder: Path, changed: dict[str, str | None] | None = None) -> Path:
    """A model folder; `changed` replaces or adds files, or leaves them out with None."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**FILES, **(changed or {})}.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_policy_id_is_that_of_the_content_and_not_of_the_path(tmp_path: Path):
    first, second = model_folder(tmp_path / "a"), model_folder(tmp_path / "elsewhere" / "b")
    assert policy_id(str(first)) == policy_id(str(second))
    kind, _, digits = policy_id(str(first)).partition(":")
    assert kind == "hf"
    assert len(bytes.fromhex(digits)) == 16


@pytest.mark.parametrize("name", FILES)
def test_policy_id_changes_with_every_file_that_decides_a_draw(tmp_path: Path, name: str):
    changed = model_folder(tmp_path / "b", {name: FILES[name] + " "})
    assert policy_id(str(changed)) != policy_id(str(model_folder(tmp_path / "a")))


def test_policy_id_changes_with_an_added_adapter(tmp_path: Path):
    adapted = model_folder(tmp_path / "b", {"adapter_config.json": "{}", "adapter_model.safetensors": "more"})
    assert policy_id(str(adapted)) != policy_id(str(model_folder(tmp_path / "a")))


@pytest.mark.parametrize("name", ["README.md", "training_args.bin", "optimizer.pt", "pytorch_model.bin"])
def test_policy_id_ignores_files_that_transformers_would_not_load(tmp_path: Path, name: str):
    littered = model_folder(tmp_path / "b", {name: "noise"})
    assert policy_id(str(littered)) == policy_id(str(model_folder(tmp_path / "a")))


def test_policy_id_reads_pickled_weights_where_there_are_no_others(tmp_path: Path):
    first = model_folder(tmp_path / "a", {"model.safetensors": None, "pytorch_model.bin": "x"})
    second = model_folder(tmp_path / "b", {"model.safetensors": None, "pytorch_model.bin": "y"})
    assert policy_id(str(first)) != policy_id(str(second))


def test_policy_id_accepts_a_template_inside_the_tokenizer_config(tmp_path: Path):
    folder = model_folder(
        tmp_path, {"chat_template.jinja": None, "tokenizer_config.json": '{"chat_template": "{{ 1 }}"}'}
    )
    assert policy_id(str(folder)).startswith("hf:")


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_policy_id_of_an_incomplete_folder_tells_what_is_missing_in_one_line(tmp_path: Path, missing: str, told: str):
    folder = model_folder(tmp_path, {missing: None})
    with pytest.raises(SourceError, match=told) as caught:
        policy_id(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["no-such-folder", "./org/name", "/no/such/folder"])
def test_policy_id_of_a_missing_folder_asks_for_a_folder_or_a_hub_id(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="does not exist") as caught:
        policy_id(model)
    assert "\n" not in str(caught.value)


def test_policy_id_of_a_hub_id_without_the_hub_library_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        policy_id("org/name")


# ----------------------------------------------------------------------------------------------- remembered digests


@pytest.fixture
def _settled(monkeypatch: pytest.MonkeyPatch):
    """Files count as old enough to be remembered; a file's change time cannot be set back."""
    monkeypatch.setattr("prefkit.sampling.policy.SETTLED_SECONDS", -1.0)


@pytest.mark.usefixtures("_settled")
def test_policy_id_notices_a_change_of_the_same_size_under_a_restored_modification_time(tmp_path: Path):
    folder, cache = model_folder(tmp_path / "model"), tmp_path / "cache.json"
    weights = folder / "model.safetensors"
    before, stat = policy_id(str(folder), cache), weights.stat()
    with weights.open("r+") as opened:  # in place: the inode stays
        opened.write("WEIGHTS")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert policy_id(str(folder), cache) != before


@pytest.mark.usefixtures("_settled")
def test_policy_id_of_an_unchanged_folder_does_not_read_its_weights_again(tmp_path: Path):
    folder, cache = model_folder(tmp_path / "model"), tmp_path / "cache.json"
    first = policy_id(str(folder), cache)
    assert first == policy_id(str(folder))
    # A remembered digest that is wrong shows: nothing but the memory can have given it.
    memory = cache.read_text()
    digest = memory.split('model.safetensors": [[')[1].split('"')[1]
    cache.write_text(memory.replace(digest, "0" * len(digest)))
    assert policy_id(str(folder), cache) != first


def test_policy_id_does_not_remember_files_that_may_still_be_changing(tmp_path: Path):
    folder, cache = model_folder(tmp_path / "model"), tmp_path / "cache.json"
    policy_id(str(folder), cache)
    assert not cache.exists()


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("damage", ["", "{", "[]", '"x"', '{"PLACE": 1}', '{"PLACE": [[1], 2]}', "\udcff"])
def test_policy_id_with_a_damaged_memory_is_that_without(tmp_path: Path, damage: str):
    folder, cache = model_folder(tmp_path / "model"), tmp_path / "cache.json"
    place = str((folder / "model.safetensors").resolve())
    cache.write_bytes(damage.replace("PLACE", place).encode(errors="surrogateescape"))
    assert policy_id(str(folder), cache) == policy_id(str(folder))


@pytest.mark.usefixtures("_settled")
def test_policy_id_with_a_memory_that_cannot_be_written_is_that_without(tmp_path: Path):
    folder = model_folder(tmp_path / "model")
    (tmp_path / "file").write_text("")
    assert policy_id(str(folder), tmp_path / "file" / "cache.json") == policy_id(str(folder))
