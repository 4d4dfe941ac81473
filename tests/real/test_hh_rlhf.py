"""HH-RLHF: dialogues as marked text."""

from collections.abc import Callable

import polars as pl
import pytest

from prefkit.records import COMPARISONS, COMPLETIONS, PROMPTS
from prefkit.sources.adapters.hh_rlhf import dialogue, dialogue_text
from prefkit.sources.conversations import Refusal
from tests.real.data import table
from tests.real.sources import Source, ledger, pair_facts


@pytest.fixture(scope="module")
def source(imported: Callable[[str], Source]) -> Source:
    return imported("hh_rlhf")


def test_every_dialogue_is_read_and_written_back_to_the_letter() -> None:
    rows = table("hh_rlhf/pairs")
    assert rows.height == 3_963
    for side in ("chosen", "rejected"):
        for text in rows[side]:
            turns = dialogue(text)
            assert not isinstance(turns, Refusal)
            assert dialogue_text(turns) == text


def test_facts_hold_the_very_dialogues(source: Source) -> None:
    assert source.outcomes == {
        "prompts": {"imported": 3_961, "duplicate": 2},  # two dialogues have two pairs of answers each
        "completions": {"imported": 7_926},
        "comparisons": {"imported": 3_963},
    }
    prompts = source.facts(PROMPTS, "id", "messages").rename({"id": "prompt_id"})
    texts = {
        completion: dialogue_text(prompt + answer)
        for completion, answer, prompt in source.facts(COMPLETIONS, "id", "completion", "prompt_id")
        .join(prompts, on="prompt_id")
        .select("id", "completion", "messages")
        .iter_rows()
    }
    pairs = {
        (texts[a], texts[b]) if preference == 1 else (texts[b], texts[a])
        for a, b, preference in source.facts(COMPARISONS, "completion_a", "completion_b", "preference").iter_rows()
    }
    assert pairs == set(table("hh_rlhf/pairs").select("chosen", "rejected").iter_rows())


def test_turns_of_the_prompt_are_those_of_the_dialogue(source: Source) -> None:
    users = pl.col("messages").list.eval(pl.element().struct.field("role") == "user").list.sum()
    counted = source.facts(PROMPTS, "messages").select(users.alias("turns"))["turns"].value_counts()
    published = table("hh_rlhf/pairs")["human_turns"].value_counts()
    more = published.join(counted, left_on="human_turns", right_on="turns", how="full")
    assert (more["count"] - more["count_right"]).sum() == 2
    assert counted["turns"].max() == 18


def test_empty_answers_are_dropped_with_their_pairs(source: Source) -> None:
    version = source.build(
        "hh", "score: [{kind: imported, scorer: hh_rlhf}]\nselect: {kind: comparisons, per_prompt: null}"
    )
    assert ledger(version, "completion hygiene") == {"kept": 7_922, "empty": 4}
    assert ledger(version, "imported comparisons") == {"rated": 3_959, "dropped_completion": 4}
    assert pair_facts(version, source).height == 3_959
    subsets = table("hh_rlhf/pairs")["subset"].value_counts().sort("subset")
    sources = version.frame().collect()["source"].value_counts().sort("source")
    assert [s.removeprefix("hh_rlhf/") for s in sources["source"]] == subsets["subset"].to_list()
    assert (subsets["count"] - sources["count"]).sum() == 4
