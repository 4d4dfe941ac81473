"""A version of sampled completions beside TRL's own offline trainer over its texts: which rows differ, and why.

TRL knows texts alone and tokenises them anew. That gives other tokens where a completion was cut at `max_new_tokens`,
which TRL ends as if it were finished, and where the policy did not write its text in the tokenizer's own way.
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("trl")
pytest.importorskip("math_verify")

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from prefkit.cli import main
from prefkit.pipeline.training.rows import BehaviorSums
from prefkit.pipeline.training.stored import stored_rows
from prefkit.records import COMPLETIONS
from prefkit.shift.live import open_tokens
from prefkit.shift.registry import Reference
from prefkit.store.workspace import Workspace
from tests.e2e.test_demo import built, copied

IDS = ["prompt_ids", "chosen_ids", "rejected_ids"]
SIDES = ("chosen", "rejected")
# Hot and short, so that both kinds come up, and judged by chance, so that nearly every prompt gives a pair.
RECIPE = (
    "sample.n=4", "sample.temperature=1.6", "sample.max_new_tokens=48", "hygiene.truncated=false", "split.test=0",
    'score=[{"kind":"fake"}]', 'aggregate={"kind":"mean"}', 'select={"kind":"best_vs_worst"}',
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `arithmetic@v1`."""
    recipe = copied(tmp_path_factory.mktemp("sampled"), 60)
    built(recipe, *RECIPE)
    return recipe.parent


def trl_rows(folder: Path, to: Path) -> list[dict[str, list[int]]]:
    """The rows of the exported version as TRL tokenises them, in the version's order."""
    code = main(["export", "arithmetic", "--to", str(to / "data"), "--as", "jsonl", "--workspace", str(folder)])
    assert code == 0
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "policy"),
        args=DPOConfig(output_dir=str(to), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
                       activation_checkpointing=False, max_length=None),
        train_dataset=Dataset.from_json(str(next((to / "data").rglob("*.jsonl")))),
        processing_class=AutoTokenizer.from_pretrained(folder / "policy"),
    )  # fmt: skip
    return [{name: row[name] for name in IDS} for row in trainer.train_dataset]


def reasons(folder: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """Per pair, whether a side is unfinished, and whether a finished one has other tokens than its text."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder / "policy")
    facts = Workspace.open(folder).facts.read(COMPLETIONS, ["id", "finish_reason", "token_ids", "completion"])
    cut, other = set[bytes](), set[bytes]()
    for completion_id, why, tokens, messages in facts.iter_rows():
        if why == "length":
            cut.add(completion_id)
        # A finished draw ends with the token that ends a turn, which is no part of its text.
        elif tokenizer(messages[0]["content"], add_special_tokens=False)["input_ids"] != tokens[:-1]:
            other.add(completion_id)
    return pairs.select(
        unfinished=pl.any_horizontal(pl.col(f"{side}_id").is_in(list(cut)) for side in SIDES),
        not_canonical=pl.any_horizontal(pl.col(f"{side}_id").is_in(list(other)) for side in SIDES),
    )


def test_rows_that_differ_from_trls_are_the_unfinished_and_the_not_canonical_ones(
    project: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    pairs = Workspace.open(project).versions.get("arithmetic").frame("train").collect()
    ours = stored_rows(pairs, open_tokens(Reference(str(project / "policy"))), BehaviorSums(), None, None)
    theirs = trl_rows(project, tmp_path)
    assert ours.num_rows == len(theirs) == pairs.height
    differs = pl.Series([mine != trl for mine, trl in zip(ours.select(IDS).to_pylist(), theirs, strict=True)])
    why = reasons(project, pairs)
    record_property("rows", {"all": pairs.height, "differ": differs.sum(), **why.sum().row(0, named=True)})
    assert why.filter("unfinished", ~pl.col("not_canonical")).height
    assert why.filter("not_canonical", ~pl.col("unfinished")).height
    assert why.filter(~pl.col("not_canonical"), ~pl.col("unfinished")).height
    assert differs.to_list() == (why["unfinished"] | why["not_canonical"]).to_list()
