import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import SourceError
from prefkit.sources.adapters import ADAPTERS, adapter
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.shaped import COMPARISONS, COMPLETIONS, PROMPTS, SCORES
from tests.sources.adapters.builders import json_rows

COLUMNS = {
    "alpaca_eval_annotations": [
        *("instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator", "preference"),
        *("dataset", "raw_completion"),
    ],
    "alpaca_eval_outputs": ["instruction", "output", "generator", "dataset"],
    "arena": ["model_a", "model_b", "winner", "conversation_a", "conversation_b", "turn", "judge", "language"],
    "finegrained_qa": ["question", "predictions", "preference", "passages", "gold"],
    "helpsteer": ["prompt", "response", "helpfulness", "correctness", "coherence", "complexity", "verbosity"],
    "hh_rlhf": ["chosen", "rejected", "subset"],
    "mqm": ["system", "doc", "seg_id", "source", "target", "rater", "category", "severity"],
    "mt_bench_judgments": ["judge_prompt", "judgment", "model", "judge"],
    "rubric_judge": ["judge_prompt", "response_source", "gpt4_scores", "gpt4_feedbacks"],
    "stack_exchange": ["question", "answers", "qid", "date", "metadata"],
    "trl": ["prompt", "chosen", "rejected", "score_chosen", "score_rejected", "tools"],
    "ultrafeedback": ["instruction", "completions", "source"],
    "ultrafeedback_lists": ["instruction", "generations", "ratings", "generation_models", "rationales"],
}
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", 3, ["user"]]), "content": st.text(max_size=3)}
)
RATING = st.fixed_dictionaries({"Rating": SCALARS, "Rationale": SCALARS})
ITEM = st.fixed_dictionaries(
    {"model": SCALARS, "response": SCALARS, "annotations": SCALARS | st.dictionaries(st.text(max_size=3), RATING)}
)
VALUES = st.recursive(
    SCALARS | st.lists(MESSAGE, max_size=4) | st.lists(ITEM, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", ADAPTERS)
@settings(max_examples=20)
@given(data=st.data())
def test_any_adapter_with_any_cells_accounts_for_every_row(name: str, data: st.DataObject):
    record = st.fixed_dictionaries(dict.fromkeys(COLUMNS[name], VALUES))
    records = data.draw(st.lists(record, min_size=1, max_size=4))
    lines = [*(json.dumps(record) for record in records), "{cut"]
    found = adapter(name)(read_json_lines("\n".join(lines).encode(), "set.jsonl"))
    for frame, schema in (
        (found.prompts, PROMPTS),
        (found.completions, COMPLETIONS),
        (found.scores, SCORES),
        (found.comparisons, COMPARISONS),
    ):
        assert dict(frame.schema) == schema
    assert set(found.refused["outcome"]) <= set(ImportOutcome)
    prompts = found.refused.filter(what="prompts")["row"].to_list() + found.prompts["row"].to_list()
    if name == "mqm":
        assert {*prompts, *found.scores["row"], *found.refused["row"]} == set(range(1, len(lines) + 1))
    else:
        assert sorted(prompts) == list(range(1, len(lines) + 1))
    for ratings, value in ((found.scores, "score"), (found.comparisons, "preference")):
        assert (ratings[value].is_null() == ratings["failure"].is_not_null()).all()
        assert ratings["scorer"].null_count() == 0


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_of_a_file_without_its_columns_is_one_line(name: str):
    with pytest.raises(SourceError) as caught:
        adapter(name)(json_rows({"text": "a", "label_name": "b"}))
    assert re.fullmatch(
        rf"set.jsonl has no column .*, got text, label_name; the adapter '{name}' expects .*: .*", str(caught.value)
    )


def test_adapter_of_an_unknown_name_suggests_the_closest():
    with pytest.raises(SourceError, match=r"adapter 'hh-rlhf' does not exist, .*; did you mean 'hh_rlhf'\?$"):
        adapter("hh-rlhf")
