"""Stored log-probs of completions: which are computed anew, and which are known."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from prefkit.engines.logprobs import TransformersReference
from prefkit.pipeline.check.logps import Scoring, known_logps, unknown
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.recipe import CheckConfig
from prefkit.records import COMPLETIONS, PROMPTS
from prefkit.shift.protocol import Logprobs, ReferenceModel, Text, Trained
from prefkit.shift.registry import Reference, open_reference
from prefkit.store.facts import FactStore
from tests.pipeline.builders import built, workspace_in

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
UNCUT = 200


class Noted:
    """A reference that notes which rows it was asked to score."""

    def __init__(self, model: ReferenceModel) -> None:
        self.model = model
        self.asked: set[bytes] = set()

    @property
    def model_id(self) -> str:
        return self.model.model_id

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        return self.model.trained(texts, max_length)

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        self.asked |= {row.id for row in rows}
        return self.model.logprobs(rows)

    def close(self) -> None:
        self.model.close()


@pytest.fixture(scope="module")
def model() -> ReferenceModel:
    opened = open_reference(Reference(str(POLICY), device="cpu"))
    assert isinstance(opened, TransformersReference)
    return opened


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> FactStore:
    """120 completions of 20 prompts."""
    workspace = workspace_in(tmp_path_factory.mktemp("logps"))
    built(workspace)
    return workspace.facts


def texts(facts: FactStore) -> list[Text]:
    prompts = dict(facts.read(PROMPTS, ["id", "messages"]).iter_rows())
    rows = facts.read(COMPLETIONS, ["id", "prompt_id", "completion", "token_ids"])
    return [Text(key, prompts[prompt], completion, ids) for key, prompt, completion, ids in rows.iter_rows()]


def yardstick(max_length: int, **settings: str) -> Yardstick:
    config = CheckConfig.model_validate({"reference": str(POLICY), "max_length": max_length, **settings})
    return Yardstick(config, Reference(str(POLICY)), "hf:policy")


def known(facts: FactStore, by: Yardstick) -> pl.DataFrame:
    keys = facts.read(COMPLETIONS, ["id", "prompt_id"]).rename({"id": "completion_id"})
    return known_logps(facts, by, keys, facts.heads())


def scored(facts: FactStore, model: ReferenceModel, max_length: int) -> set[bytes]:
    """Scores what is missing; which completions that were."""
    noted = Noted(model)
    by = yardstick(max_length)
    Scoring(facts, noted, by, lambda _: None).score(unknown(known(facts, by)))
    assert unknown(known(facts, by)).is_empty()
    return noted.asked


def test_another_longest_length_computes_only_completions_whose_tokens_changed(facts: FactStore, model: ReferenceModel):
    whole = {row.id: row for row in model.trained(texts(facts), UNCUT)}
    assert all(row.cut == 0 for row in whole.values())
    lengths = sorted(len(row.prompt_ids) + row.tokens for row in whole.values())
    shorter, middling = lengths[len(lengths) // 4], lengths[len(lengths) // 2]
    assert shorter < middling
    assert scored(facts, model, UNCUT) == whole.keys()
    for max_length in (middling, shorter):
        cut = {row.id for row in model.trained(texts(facts), max_length) if row.cut}
        assert 0 < len(cut) < len(whole)
        assert scored(facts, model, max_length) == cut
        assert scored(facts, model, max_length) == set()
    assert scored(facts, model, UNCUT) == set()


def test_known_logps_are_the_sums_over_the_tokens_as_trained_whatever_runs_the_model(
    facts: FactStore, model: ReferenceModel
):
    max_length = 30
    scored(facts, model, max_length)
    rows = model.trained(texts(facts), max_length)
    sums = {found.id: sum(found.logprobs) for batch in model.logprobs(rows) for found in batch}
    for backend in ("transformers", "vllm"):
        found = known(facts, yardstick(max_length, backend=backend))
        assert unknown(found).is_empty()
        logps = dict(found.drop_nulls("logps").select("completion_id", "logps").iter_rows())
        assert logps == pytest.approx({row.id: sums[row.id] for row in rows if row.tokens}, abs=1e-4)


def test_another_number_format_is_another_logp(facts: FactStore, model: ReferenceModel):
    scored(facts, model, UNCUT)
    assert unknown(known(facts, yardstick(UNCUT, dtype="bfloat16"))).height == len(texts(facts))
