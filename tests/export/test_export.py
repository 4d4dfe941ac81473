"""Formats, writers and the folder, over one small version of each kind."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import NotFoundError, PrefkitError, RecipeError, WorkspaceError
from prefkit.export.folder import write_folder
from prefkit.export.formats import FORMATS, formatted, unpaired_from_pairs
from prefkit.export.source import ExportSource, Kind
from prefkit.export.writers import dataset_dict, write_splits
from prefkit.sampling.protocol import Message

MESSAGES = pl.List(pl.Struct({"role": pl.String(), "content": pl.String()}))
SCORES = pl.Struct({"math": pl.Float64(), "style": pl.Float64()})


def said(role: str, *texts: str) -> list[Message]:
    return [Message(role=role, content=text) for text in texts]


def side_columns(side: str, number: int, score: float | None) -> dict[str, object]:
    return {
        side: said("assistant", f"{side} {number}"),
        f"{side}_id": f"{side} {number}".encode().ljust(16, b"."),
        f"{side}_token_ids": [number, 2],
        f"behavior_{side}_logps": -1.5,
        f"{side}_scores": {"math": score, "style": None},
        f"{side}_score": score,
        f"{side}_policy_id": "tiny",
        f"{side}_policy_version": 0,
    }


def pair(number: int, prompt: list[Message] | None = None, answer: str | None = "4") -> dict[str, object]:
    return {
        "pair_id": f"pair {number}".encode().ljust(16, b"."),
        "prompt_id": b"\x00\xff" * 8,
        "prompt": prompt or said("user", f"question {number}"),
        **side_columns("chosen", number, 1.0),
        **side_columns("rejected", number, 0.25),
        "score_margin": 0.75,
        "source": "math",
        "answer": answer,
    }


def pairs_frame(*rows: dict[str, object]) -> pl.DataFrame:
    of_side = {"": MESSAGES, "_id": pl.Binary(), "_token_ids": pl.List(pl.Int32()), "_scores": SCORES}
    overrides = {f"{side}{suffix}": dtype for side in ("chosen", "rejected") for suffix, dtype in of_side.items()}
    schema = pl.DataFrame([pair(0)], schema_overrides={"prompt": MESSAGES, **overrides}).schema
    return pl.DataFrame(rows, schema=schema)


def row(number: int, label: bool | None = None, prompt: list[Message] | None = None) -> dict[str, object]:
    return {
        "row_id": f"row {number}".encode().ljust(16, b"."),
        "prompt_id": f"prompt {number // 2}".encode().ljust(16, b"."),
        "prompt": prompt or said("user", f"question {number // 2}"),
        "completion_id": f"completion {number}".encode().ljust(16, b"."),
        "completion": said("assistant", f"completion {number}"),
        "completion_token_ids": [number, 2],
        "behavior_logps": None,
        "scores": {"math": 0.5, "style": 1.0},
        "score": 0.5,
        "label": label,
        "weight": None,
        "source": "math",
        "answer": "4",
        "policy_id": "tiny",
        "policy_version": 0,
    }


def subset_frame(*rows: dict[str, object]) -> pl.DataFrame:
    types = {"prompt": MESSAGES, "completion": MESSAGES, "completion_token_ids": pl.List(pl.Int32()), "scores": SCORES}
    missing = {"behavior_logps": pl.Float64(), "label": pl.Boolean(), "weight": pl.Float64()}
    return pl.DataFrame(rows, schema_overrides=types | missing)


def version(kind: Kind, train: pl.DataFrame, test: pl.DataFrame | None = None) -> ExportSource:
    return ExportSource(
        name="arithmetic",
        version="v3",
        kind=kind,
        splits={"train": train, "test": train.clear() if test is None else test},
        candidates=subset_frame(row(0), row(1), row(2)),
        ledger=[("sample", "prompt x index", "sampled", 3), ("select", "prompt", "paired", 2)],
        fingerprint="f" * 32,
        content_hash="c" * 32,
    )


PAIRS = version("pairs", pairs_frame(pair(1), pair(2)), pairs_frame(pair(3)))


def test_conversational_preference_keeps_every_column_with_readable_ids():
    splits = formatted(PAIRS, "trl")
    assert {split: len(frame) for split, frame in splits.items()} == {"train": 2, "test": 1}
    frame = splits["train"]
    assert frame.columns[:3] == ["prompt", "chosen", "rejected"]
    assert set(frame.columns) == set(pair(1))
    first = frame.row(0, named=True)
    assert first["prompt_id"] == "00ff" * 8
    assert first["prompt"] == said("user", "question 1")
    assert first["chosen"] == said("assistant", "chosen 1")
    assert first["rejected_token_ids"] == [1, 2]


def test_plain_preference_is_strings():
    frame = formatted(PAIRS, "trl-plain")["train"]
    assert frame.select("prompt", "chosen", "rejected").row(1) == ("question 2", "chosen 2", "rejected 2")


@pytest.mark.parametrize(
    "prompt",
    [
        said("user", "a") + said("assistant", "b") + said("user", "c"),
        said("system", "be brief") + said("user", "a"),
        said("system", "be brief"),
    ],
)
def test_plain_preference_refuses_what_strings_cannot_carry(prompt: list[Message]):
    source = version("pairs", pairs_frame(pair(1), pair(2, prompt)))
    with pytest.raises(RecipeError, match=r"1 of 2 rows are not_plain .* export as 'trl'"):
        formatted(source, "trl-plain")


def test_only_the_reward_format_has_a_margin():
    with_margin = [
        name for name, kinds in FORMATS.items() if "pairs" in kinds and "margin" in formatted(PAIRS, name)["train"]
    ]
    assert with_margin == ["trl-reward"]
    assert formatted(PAIRS, "trl-reward")["train"]["margin"].to_list() == [0.75, 0.75]


def test_unpaired_pairs_are_two_labelled_rows_each():
    frame = formatted(PAIRS, "unpaired")["train"]
    assert frame.columns[:3] == ["prompt", "completion", "label"]
    told = [
        (p[0]["content"], c[0]["content"], label)
        for p, c, label in frame.select("prompt", "completion", "label").rows()
    ]
    assert told == [
        ("question 1", "chosen 1", True),
        ("question 1", "rejected 1", False),
        ("question 2", "chosen 2", True),
        ("question 2", "rejected 2", False),
    ]
    assert frame["score"].to_list() == [1.0, 0.25, 1.0, 0.25]
    assert frame["completion_id"].to_list()[1] == b"rejected 1......".hex()


@given(st.integers(1, 30))
def test_unpaired_pairs_stay_side_by_side(count: int):
    frame = unpaired_from_pairs(pairs_frame(*(pair(i) for i in range(count))))
    assert frame["label"].to_list() == [True, False] * count
    assert frame["pair_id"].to_list()[::2] == frame["pair_id"].to_list()[1::2]
    assert frame["pair_id"].n_unique() == count


def test_labelled_subset_is_unpaired_in_both_trl_formats():
    source = version("subset", subset_frame(row(0, True), row(1, False)))
    assert formatted(source, "trl")["train"]["label"].to_list() == [True, False]
    assert formatted(source, "trl-plain")["train"].select("prompt", "completion", "label").rows() == [
        ("question 0", "completion 0", True),
        ("question 0", "completion 1", False),
    ]


def test_subset_without_labels_is_refused_as_unpaired_and_exported_for_sft():
    source = version("subset", subset_frame(row(0), row(1, True)))
    with pytest.raises(RecipeError, match="1 of 2 rows have no label"):
        formatted(source, "unpaired")
    assert len(formatted(source, "sft")["train"]) == 2


def test_sft_leaves_out_what_is_labelled_undesirable():
    source = version("subset", subset_frame(row(0, True), row(1, False), row(2, True)))
    frame = formatted(source, "sft")["train"]
    assert frame.columns[:2] == ["prompt", "completion"]
    assert "label" not in frame.columns
    assert [c[0]["content"] for c in frame["completion"].to_list()] == ["completion 0", "completion 2"]


def test_sft_of_pairs_holds_each_chosen_completion_once():
    again = pair(1) | side_columns("rejected", 7, 0.0) | {"pair_id": b"another pair...."}
    frame = formatted(version("pairs", pairs_frame(pair(1), again, pair(2))), "sft")["train"]
    assert [c[0]["content"] for c in frame["completion"].to_list()] == ["chosen 1", "chosen 2"]


def test_prompt_only_holds_each_task_once():
    source = version("subset", subset_frame(row(0), row(1), row(2), row(3) | {"answer": "5"}))
    frame = formatted(source, "prompt-only")["train"]
    assert [(p[0]["content"], answer) for p, answer in frame.select("prompt", "answer").rows()] == [
        ("question 0", "4"),
        ("question 1", "4"),
        ("question 1", "5"),
    ]


@pytest.mark.parametrize(
    ("source", "name", "error", "message"),
    [
        (PAIRS, "tlr", RecipeError, "format 'tlr' does not exist, expected one of .*did you mean 'trl'"),
        (
            version("subset", subset_frame(row(0))),
            "trl-reward",
            RecipeError,
            "holds a subset, which .* use one of trl, ",
        ),
        (version("pairs", pairs_frame()), "trl", NotFoundError, "arithmetic@v3 has no rows"),
        (version("subset", subset_frame(row(0, False))), "sft", NotFoundError, "has no rows in format 'sft'"),
    ],
)
def test_export_that_makes_no_sense_is_refused_in_one_line(
    source: ExportSource, name: str, error: type[PrefkitError], message: str
):
    with pytest.raises(error, match=message) as caught:
        formatted(source, name)
    assert "\n" not in str(caught.value)


def test_parquet_and_jsonl_hold_the_same_rows(tmp_path: Path):
    splits = formatted(PAIRS, "trl")
    write_splits(splits, tmp_path / "parquet", "parquet")
    write_splits(splits, tmp_path / "jsonl", "jsonl")
    assert sorted(p.name for p in (tmp_path / "parquet").iterdir()) == ["test.parquet", "train.parquet"]
    for split, frame in splits.items():
        assert pl.read_parquet(tmp_path / "parquet" / f"{split}.parquet").equals(frame)
        lines = (tmp_path / "jsonl" / f"{split}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == frame.to_dicts()


def test_empty_target_folder_is_filled_and_a_filled_one_refused(tmp_path: Path):
    splits = formatted(PAIRS, "trl")
    (tmp_path / "out").mkdir()
    write_splits(splits, tmp_path / "out", "jsonl")
    before = (tmp_path / "out" / "train.jsonl").read_bytes()
    for target in (tmp_path / "out", tmp_path / "out" / "train.jsonl"):
        with pytest.raises(WorkspaceError, match="exists, expected a new or empty folder"):
            write_splits({"other": splits["test"]}, target, "jsonl")
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_unknown_container_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="container 'csv' does not exist, expected one of parquet, jsonl, datasets"):
        write_splits(formatted(PAIRS, "trl"), tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists()


def test_target_below_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match=r"cannot be written: Not a directory; nothing was exported"):
        write_splits(formatted(PAIRS, "trl"), tmp_path / "file" / "out", "jsonl")


@contextmanager
def largest_file(size: int) -> Generator[None]:
    """Writing more than `size` bytes to a file fails, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("container", ["parquet", "jsonl"])
def test_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, container: str):
    splits = formatted(version("pairs", pairs_frame(*(pair(i) for i in range(300)))), "trl")
    with largest_file(4096), pytest.raises(WorkspaceError, match="nothing was exported"):
        write_splits(splits, tmp_path / "out", container)
    assert list(tmp_path.iterdir()) == []


LOAD = """
import json, sys
from datasets import load_dataset, load_from_disk
def told(rows):
    return {"rows": rows.to_list(), "features": {name: str(feature) for name, feature in rows.features.items()}}
folder, *configs = sys.argv[1:]
loads = {config: load_dataset(folder, config) for config in configs} or {"saved": load_from_disk(folder)}
print(json.dumps({name: {split: told(rows) for split, rows in found.items()} for name, found in loads.items()}))
"""


class Told(TypedDict):
    rows: list[dict[str, object]]
    features: dict[str, str]


def loaded(folder: Path, cache: Path, *configs: str) -> dict[str, dict[str, Told]]:
    """What a fresh process sees in the folder: datasets reads its environment when it is imported."""
    pytest.importorskip("datasets")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "HF_DATASETS_CACHE": str(cache / "datasets")}
    command = [sys.executable, "-c", LOAD, str(folder), *configs]
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_folder_opens_with_both_configs_and_their_token_ids(tmp_path: Path):
    write_folder(PAIRS, tmp_path / "out")
    found = loaded(tmp_path / "out", tmp_path / "cache", "preferences", "candidates")
    assert {split: len(rows["rows"]) for split, rows in found["preferences"].items()} == {"train": 2, "test": 1}
    assert found["preferences"]["train"]["rows"] == formatted(PAIRS, "trl")["train"].to_dicts()
    candidates = found["candidates"]["train"]["rows"]
    assert [c["completion_token_ids"] for c in candidates] == [[0, 2], [1, 2], [2, 2]]
    assert candidates[0]["scores"] == {"math": 0.5, "style": 1.0}


def test_readme_tells_counts_ledger_and_fingerprint(tmp_path: Path):
    write_folder(PAIRS, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for line in (
        "# arithmetic@v3",
        "| preferences | train | 2 |",
        "| candidates | train | 3 |",
        "| sample | prompt x index | sampled | 3 |",
        f"- Recipe fingerprint: `{'f' * 32}`",
        f"- Content hash: `{'c' * 32}`",
    ):
        assert line in text.splitlines()


def test_folder_of_a_subset_without_candidates_has_one_config(tmp_path: Path):
    source = replace(version("subset", subset_frame(row(0), row(1))), candidates=None)
    write_folder(source, tmp_path / "out")
    found = loaded(tmp_path / "out", tmp_path / "cache", "completions")
    assert [r["label"] for r in found["completions"]["train"]["rows"]] == [None, None]
    assert sorted(p.name for p in (tmp_path / "out" / "data").iterdir()) == ["completions"]


def test_folder_of_a_version_without_rows_is_refused(tmp_path: Path):
    with pytest.raises(NotFoundError, match="has no rows"):
        write_folder(version("pairs", pairs_frame()), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_dataset_dict_reloads_from_disk_with_plain_types(tmp_path: Path):
    pytest.importorskip("datasets")
    write_splits(formatted(PAIRS, "trl-plain"), tmp_path / "out", "datasets")
    train = loaded(tmp_path / "out", tmp_path / "cache")["saved"]["train"]
    assert train["rows"] == formatted(PAIRS, "trl-plain")["train"].to_dicts()
    assert train["features"]["prompt"] == "Value('string')"
    assert train["features"]["chosen_token_ids"] == "List(Value('int32'))"


@pytest.mark.parametrize(
    ("source", "name", "conversational"),
    [
        (PAIRS, "trl", True),
        (PAIRS, "trl-plain", False),
        (PAIRS, "trl-reward", True),
        (PAIRS, "unpaired", True),
        (PAIRS, "sft", True),
        (PAIRS, "prompt-only", True),
        (version("subset", subset_frame(row(0, True))), "trl-plain", False),
    ],
)
def test_trl_sees_the_format_that_was_asked_for(source: ExportSource, name: str, conversational: bool):
    data_utils = pytest.importorskip("trl.data_utils")
    for example in dataset_dict(formatted(source, name))["train"]:
        assert data_utils.is_conversational(example) is conversational


def test_unpaired_rows_are_those_that_trl_makes_of_the_pairs():
    data_utils = pytest.importorskip("trl.data_utils")
    theirs = data_utils.unpair_preference_dataset(dataset_dict(formatted(PAIRS, "trl")))
    ours = formatted(PAIRS, "unpaired")
    columns = ["prompt", "completion", "label"]
    for split, frame in ours.items():
        made = theirs[split].select_columns(columns).to_list()
        assert sorted(made, key=str) == sorted(frame.select(columns).to_dicts(), key=str)
