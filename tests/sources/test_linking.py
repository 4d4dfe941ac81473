import json

import polars as pl
import pytest

from prefkit.errors import LedgerError
from prefkit.identity import content_id
from prefkit.records import COMPARISONS, COMPLETIONS, SCORES
from prefkit.sources.linking.facts import fact_parts
from prefkit.sources.linking.whole import Known
from prefkit.sources.shaped import Shaped
from tests.sources.shaped_tables import Row, answer, compared, ends, link, of, said, score, table, texts

PROMPTS = table("prompts.jsonl", prompts=[said("Hi", "p"), said("Ho", "q")])
ANSWERS = table(
    "answers.jsonl",
    completions=[answer("p", "good", "A"), answer("p", "bad", "B"), answer("q", "fine", "A")],
)


FROZEN = {
    "completions": [
        "31ab0cb70a45f40937ee51d966757fc5",
        "19909dd70c1775d308b37a6227631b4e",
        "dcf8ab7068cfdc44f342e68a0c64a30d",
    ],
    "scores": ["dc50f03d177c79fb0ded21889be7639d"],
    "comparisons": ["e8c63b6a314b5298ee24fc353a941755"],
}


def by_text(found: pl.DataFrame, names: dict[bytes, str], *columns: str) -> set[tuple[object, ...]]:
    return {tuple(names.get(v, v) if isinstance(v, bytes) else v for v in row) for row in found.select(columns).rows()}


# ------------------------------------------------------------------------------------------------ ids


def test_ids_of_imported_facts_never_change():
    judged = table(
        scores=[score("p", of("A"), 3.0, raw="3")],
        comparisons=[compared("p", of("A"), of("B"), 0.75, order="ab", rationale="longer")],
    )
    found = link(PROMPTS, ANSWERS, judged)
    assert found.completions["id"].bin.encode("hex").to_list() == FROZEN["completions"]
    assert found.scores["id"].bin.encode("hex").to_list() == FROZEN["scores"]
    assert found.comparisons["id"].bin.encode("hex").to_list() == FROZEN["comparisons"]


def test_completion_id_does_not_depend_on_other_rows_or_files():
    alone = [link(PROMPTS, table(completions=[row])) for row in ANSWERS.completions.drop("row").to_dicts()]
    assert [f.completions["id"][0] for f in alone] == link(PROMPTS, ANSWERS).completions["id"].to_list()


def test_text_and_one_assistant_message_are_one_completion():
    message = json.dumps([{"role": "assistant", "content": "good"}])
    spelled = table(completions=[{"prompt": "p", "model": "A", "kind": "list", "text": message}])
    (fact,) = fact_parts(COMPLETIONS, link(PROMPTS, spelled).completions)
    (plain,) = fact_parts(COMPLETIONS, link(PROMPTS, table(completions=[answer("p", "good", "A")])).completions)
    assert fact.equals(plain)
    assert fact["completion"].to_pylist() == [[{"role": "assistant", "content": "good"}]]


@pytest.mark.parametrize("change", [{"prompt": "q"}, {"model": "B"}, {"model": None}, {"text": "good "}])
def test_completion_id_changes_with_prompt_model_and_text(change: dict[str, object]):
    rows = [answer("p", "good", "A"), {**answer("p", "good", "A"), **change}]
    assert link(PROMPTS, table(completions=rows)).completions["id"].n_unique() == 2


def test_completion_without_a_model_is_of_an_unknown_one():
    assert link(PROMPTS, table(completions=[answer("p", "x")])).completions["policy_id"].to_list() == [
        "imported:unknown"
    ]


# ------------------------------------------------------------------------------------------- prompts


def test_key_of_another_prompt_is_refused_and_nothing_of_its_row_is_attached():
    wrong = table(
        prompts=[said("Other", "p")],
        completions=[answer("p", "to other", "A", slot="c")],
        scores=[score("p", of(slot="c"), 1.0)],
    )
    found = link(PROMPTS, wrong)
    assert ends(found, "prompts") == ["imported", "imported", "conflicting_key"]
    assert (ends(found, "completions"), ends(found, "scores")) == (["unknown_prompt"], ["unknown_prompt"])


@pytest.mark.parametrize(
    ("words", "refused", "outcome"),
    [
        ([said(None, "p")], [], "missing_prompt"),
        ([], [{"what": "prompts", "outcome": "unsupported_answer"}], "unsupported_answer"),
    ],
)
def test_row_whose_own_prompt_was_refused_does_not_take_the_prompt_of_its_key(
    words: list[Row], refused: list[Row], outcome: str
):
    found = link(PROMPTS, table(prompts=words, completions=[answer("p", "to another", "A")], refused=refused))
    assert (ends(found, "prompts")[-1], ends(found, "completions")) == (outcome, ["unknown_prompt"])


def test_key_given_twice_to_one_prompt_is_no_conflict():
    again = table(prompts=[said("Hi", "p")], completions=[answer("p", "good", "A")])
    found = link(PROMPTS, again)
    assert (ends(found, "prompts"), ends(found, "completions")) == (["imported", "imported", "duplicate"], ["imported"])


def test_keys_of_a_table_without_keys_of_its_own_hold_there_alone():
    first = table("1.jsonl", keyed=False, prompts=[said("one", "1")], completions=[answer("1", "to one")])
    second = table("2.jsonl", keyed=False, prompts=[said("two", "1")], completions=[answer("1", "to two")])
    found = link(first, second)
    prompts = {i: m[0]["content"] for i, m in found.prompts.select("id", "messages").iter_rows()}
    assert by_text(found.completions, prompts, "prompt_id", "text") == {("one", "to one"), ("two", "to two")}
    assert found.prompt_keys.is_empty()


def test_prompt_in_words_beside_a_completion_makes_one_task():
    rows = table(
        keyed=False,
        prompts=[said("Hi", "1", answer="x"), said("New", "2"), said("New", "3", answer="y")],
        completions=[answer("1", "a"), answer("2", "b"), answer("3", "c")],
    )
    found = link(rows, PROMPTS)
    assert ends(found, "prompts") == ["duplicate", "imported", "duplicate", "imported", "imported"]
    assert found.tasks.height == 3
    assert ends(found, "completions") == ["imported"] * 3


def test_part_of_a_mixed_set_is_part_of_the_source_of_its_task():
    found = link(table(prompts=[said("Hi", source="koala"), said("Ho")]), source="mix")
    assert found.tasks["source"].to_list() == ["mix/koala", "mix"]


def test_completion_of_a_prompt_that_was_refused_has_an_unknown_prompt():
    found = link(table(prompts=[said(None, "p")], completions=[answer("p", "x"), answer("z", "y")]))
    assert (ends(found, "prompts"), ends(found, "completions")) == (["missing_prompt"], ["unknown_prompt"] * 2)


# --------------------------------------------------------------------------------------- completions


def test_missing_completion_text_is_an_outcome_and_an_empty_one_is_imported():
    found = link(PROMPTS, table(completions=[answer("p", None, "A"), answer("p", "", "A")]))
    assert ends(found, "completions") == ["missing_text", "imported"]


@pytest.mark.parametrize(
    ("kind", "text", "outcome"),
    [
        ("number", "42", "unsupported_content"),
        ("object", '{"role":"assistant","content":"x"}', "unsupported_content"),
        ("unreadable", "a lone surrogate", "malformed"),
        ("list", "[]", "missing_text"),
        ("list", '["x"]', "unsupported_content"),
        ("list", '[{"role":"user","content":"x"}]', "unsupported_content"),
        ("list", '[{"role":"assistant","content":"x"},{"role":"user","content":"y"}]', "unsupported_content"),
        ("list", '[{"role":"assistant","content":"x"},{"role":"assistant","content":"y"}]', "imported"),
    ],
)
def test_completion_of_another_shape_has_its_outcome(kind: str, text: str, outcome: str):
    found = link(PROMPTS, table(completions=[{"prompt": "p", "kind": kind, "text": text}]))
    assert ends(found, "completions") == [outcome]


def test_equal_texts_in_a_list_of_completions_are_samples_of_their_own():
    found = link(PROMPTS, table(completions=[answer("p", "42", "A")] * 3))
    assert ends(found, "completions") == ["imported"] * 3
    assert found.completions["sample_index"].to_list() == [0, 1, 2]
    assert found.completions["id"].n_unique() == 3


def test_equal_texts_with_keys_are_as_many_as_their_keys():
    rows = [answer("p", "42", "A", key=key) for key in ("s1", "s2", "s1")]
    found = link(PROMPTS, table(completions=rows))
    assert ends(found, "completions") == ["imported", "imported", "duplicate"]


def test_equal_texts_in_rated_rows_are_one_completion_where_annotators_meet():
    rows = [{**answer("p", "42", "A"), "slot": "c"}] * 2
    ratings = [score("p", of(slot="c"), value, scorer) for value, scorer in ((1.0, "ann"), (5.0, "bob"))]
    found = link(PROMPTS, table(completions=rows, scores=ratings))
    assert ends(found, "completions") == ["imported", "duplicate"]
    assert found.scores["completion_id"].n_unique() == 1
    assert found.scores["score"].to_list() == [1.0, 5.0]


def test_text_listed_in_one_table_and_keyed_in_another_is_one_completion():
    keyed = table(completions=[answer("p", "good", "A", key="A/0")])
    assert ends(link(PROMPTS, ANSWERS, keyed), "completions") == ["imported"] * 3 + ["duplicate"]


# ------------------------------------------------------------------------------------------- ratings


def test_score_is_of_the_completion_of_its_key_and_prompt():
    rows = [score("p", of("B"), 1.0), score("q", of("A"), 2.0), score("p", of("A"), 3.0)]
    found = link(PROMPTS, ANSWERS, table(scores=rows))
    assert by_text(found.scores, texts(found), "completion_id", "score") == {("bad", 1), ("fine", 2), ("good", 3)}


def test_score_of_what_there_is_not_names_what_is_missing():
    rows = [score("p", of("C"), 1.0), score("q", of("B"), 1.0), score("z", of("A"), 1.0), score("p", of(slot="x"), 1.0)]
    found = link(PROMPTS, ANSWERS, table(scores=rows))
    assert ends(found, "scores") == ["missing_completion", "missing_completion", "unknown_prompt", "missing_completion"]
    assert found.scores.is_empty()


def test_key_of_several_completions_is_ambiguous():
    more = table(completions=[answer("p", "better", "A")])
    found = link(PROMPTS, ANSWERS, more, table(scores=[score("p", of("A"), 1.0)]))
    assert ends(found, "scores") == ["ambiguous_completion"]


def test_explicit_key_replaces_the_name_of_the_model():
    keyed = table(completions=[answer("p", "one", "A", key="k1"), answer("p", "two", "A", key="k2")])
    found = link(PROMPTS, keyed, table(scores=[score("p", of("k2"), 1.0), score("p", of("A"), 2.0)]))
    assert ends(found, "scores") == ["imported", "missing_completion"]
    assert by_text(found.scores, texts(found), "completion_id") == {("two",)}


def test_own_completion_of_a_name_comes_before_a_known_one():
    earlier = link(PROMPTS, ANSWERS)
    keys = earlier.completion_keys.join(earlier.completions, left_on="completion_id", right_on="id")
    known = Known(
        earlier.prompt_keys,
        earlier.tasks["prompt_id"],
        keys.select("prompt_id", "key", "completion_id", "policy_id", "sampler_id"),
    )
    new = table(completions=[answer("p", "rerun", "A")], scores=[score("p", of("A"), 1.0), score("p", of("B"), 2.0)])
    found = link(new, known=known)
    assert by_text(found.scores, texts(earlier) | texts(found), "completion_id", "score") == {("rerun", 1), ("bad", 2)}
    assert found.prompt_keys.is_empty()


def test_rating_belongs_to_the_text_that_was_seen():
    rows = [compared("p", of("A", seen="good, but older"), of("B"), 1.0)]
    found = link(PROMPTS, ANSWERS, table(comparisons=rows))
    sides = by_text(
        found.comparisons.select(pl.concat_list("completion_a", "completion_b").alias("s")).explode("s"),
        texts(found),
        "s",
    )
    assert sides == {("good, but older",), ("bad",)}
    older = found.completions.filter(pl.col("text") == "good, but older")
    assert older["policy_id"].to_list() == ["imported:A"]
    assert ends(found, "completions") == ["imported"] * 4
    # It has no name, so what else is said of A is said of the completion itself
    assert found.completion_keys.filter(pl.col("completion_id").is_in(older["id"].implode()))["key"].to_list() == [None]


def test_seen_text_that_is_the_completions_own_is_the_completion():
    found = link(PROMPTS, ANSWERS, table(scores=[score("p", of("A", seen="good"), 1.0)]))
    assert by_text(found.scores, texts(found), "completion_id") == {("good",)}
    assert found.completions.height == 3


def test_seen_text_needs_the_completion_that_it_stands_for():
    found = link(PROMPTS, ANSWERS, table(scores=[score("p", of("C", seen="what C said"), 1.0)]))
    assert (ends(found, "scores"), found.completions.height) == (["missing_completion"], 3)


def test_seen_text_of_a_rating_that_is_not_imported_is_not_either():
    rows = [compared("p", of("A", seen="older"), of("C"), 1.0), score("p", of("A", seen="old"), None)]
    found = link(PROMPTS, ANSWERS, table(comparisons=rows[:1], scores=rows[1:]))
    assert (ends(found, "comparisons"), ends(found, "scores")) == (["missing_completion"], ["unrated"])
    assert found.completions.height == 3


def test_comparison_is_stored_with_the_smaller_id_first_whichever_way_it_was_given():
    given = [compared("p", of("A"), of("B"), 0.75, order="ab"), compared("p", of("B"), of("A"), 0.25, order="ba")]
    one, two = (link(PROMPTS, ANSWERS, table(comparisons=[row])) for row in given)
    assert one.comparisons.equals(two.comparisons)
    assert (one.comparisons["completion_a"] < one.comparisons["completion_b"]).all()
    names = texts(one)
    (row,) = one.comparisons.to_dicts()
    good_first = names[row["completion_a"]] == "good"
    assert (row["preference"], row["order"]) == ((0.75, "ab") if good_first else (0.25, "ba"))


@pytest.mark.parametrize(("verdict", "winner"), [(1.0, "good"), (0.0, "bad"), (0.9, "good"), (0.2, "bad")])
@pytest.mark.parametrize("order", ["ab", "ba", None])
def test_winner_is_the_side_that_was_preferred_in_every_order(verdict: float, winner: str, order: str | None):
    found = link(PROMPTS, ANSWERS, table(comparisons=[compared("p", of("A"), of("B"), verdict, order=order)]))
    (row,) = found.comparisons.to_dicts()
    assert texts(found)[row["completion_a" if row["preference"] > 0.5 else "completion_b"]] == winner


def test_chosen_and_rejected_of_one_text_are_no_comparison():
    row = [answer("p", "same", slot="chosen"), answer("p", "same", slot="rejected")]
    rows = [{**r, "row": 1} for r in row]
    pair = table(completions=rows, comparisons=[compared("p", of(slot="chosen"), of(slot="rejected"), 1.0)])
    found = link(PROMPTS, pair)
    assert (ends(found, "comparisons"), found.comparisons.height) == (["same_completion"], 0)


def test_tie_is_a_draw_and_never_prefers_a_side():
    found = link(PROMPTS, ANSWERS, table(comparisons=[compared("p", of("A"), of("B"), 0.5)]))
    assert (ends(found, "comparisons"), found.comparisons["preference"].to_list()) == (["draw"], [0.5])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e13, 1e300])
def test_score_that_is_no_usable_number_is_unparsable(value: float):
    found = link(PROMPTS, ANSWERS, table(scores=[score("p", of("A"), value, raw="x")]))
    assert ends(found, "scores") == ["unparsable"]
    assert found.scores.select("score", "failure", "raw").row(0) == (None, "unparsable", "x")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_preference_out_of_range_is_unparsable(value: float):
    found = link(PROMPTS, ANSWERS, table(comparisons=[compared("p", of("A"), of("B"), value)]))
    assert ends(found, "comparisons") == ["unparsable"]
    assert found.comparisons["preference"].to_list() == [None]


def test_failed_judgment_is_a_row_of_its_own_completion_and_moves_no_other():
    rows = [
        score("p", of("A"), 1.0),
        score("p", of("B"), None, failure="unparsable", raw="2\n\n5"),
        score("q", of("A"), 3.0),
    ]
    found = link(PROMPTS, ANSWERS, table(scores=rows))
    assert ends(found, "scores") == ["imported", "unparsable", "imported"]
    told = by_text(found.scores, texts(found), "completion_id", "score", "failure")
    assert told == {("good", 1, None), ("bad", None, "unparsable"), ("fine", 3, None)}


def test_nothing_said_is_unrated():
    found = link(PROMPTS, ANSWERS, table(scores=[score("p", of("A"), None), score("p", of("nobody"), None)]))
    assert ends(found, "scores") == ["unrated", "unrated"]


def test_rating_by_nobody_is_malformed():
    rows = [{**score("p", of("A"), 1.0), "scorer": None}]
    assert ends(link(PROMPTS, ANSWERS, table(scores=rows)), "scores") == ["malformed"]


def test_same_scorer_again_is_the_next_repeat_and_the_same_words_are_a_duplicate():
    values = [(3.0, "ann"), (4.0, "ann"), (3.0, "ann"), (3.0, "bob")]
    found = link(PROMPTS, ANSWERS, table(scores=[score("p", of("A"), v, s) for v, s in values]))
    assert ends(found, "scores") == ["imported", "imported", "duplicate", "imported"]
    assert found.scores["repeat"].to_list() == [0, 1, 0]


def test_repeat_that_the_file_gives_is_kept_and_tells_equal_scores_apart():
    rows = [score("p", of("A"), 3.0, repeat=n) for n in (2, 7, 2)]
    found = link(PROMPTS, ANSWERS, table(scores=rows))
    assert ends(found, "scores") == ["imported", "imported", "duplicate"]
    assert found.scores["repeat"].to_list() == [2, 7]


@pytest.mark.parametrize("change", [{"score": 4.0}, {"raw": "3.0"}, {"rationale": "because"}, {"aspect": "style"}])
def test_corrected_score_is_a_new_fact(change: dict[str, object]):
    old, new = ({**score("p", of("A"), 3.0, raw="3"), **c} for c in ({}, change))
    ids = [link(PROMPTS, ANSWERS, table(scores=[row])).scores["id"][0] for row in (old, new)]
    assert ids[0] != ids[1]


def test_judgments_in_both_orders_are_two_facts():
    rows = [compared("p", of("A"), of("B"), 1.0, order="ab"), compared("p", of("A"), of("B"), 1.0, order="ba")]
    found = link(PROMPTS, ANSWERS, table(comparisons=rows))
    assert ends(found, "comparisons") == ["imported", "imported"]
    assert sorted(found.comparisons["order"]) == ["ab", "ba"]


def test_scorers_are_named_with_the_ids_of_their_facts():
    rows = [score("p", of("A"), 1.0, name) for name in ("ann", "bob", "ann")]
    found = link(PROMPTS, ANSWERS, table(scores=rows, comparisons=[compared("p", of("A"), of("B"), 1.0, "eve")]))
    names = dict(found.scorers.select("scorer_id", "name").iter_rows())
    assert sorted(names.values()) == ["ann", "bob", "eve"]
    assert names[found.comparisons["scorer_id"][0]] == "eve"


# -------------------------------------------------------------------------------------------- facts


def test_facts_have_the_types_of_the_records_but_for_the_stamp():
    judged = table(scores=[score("p", of("A"), 3.0)], comparisons=[compared("p", of("A"), of("B"), 1.0)])
    found = link(PROMPTS, ANSWERS, judged)
    for record, rows in ((COMPLETIONS, found.completions), (SCORES, found.scores), (COMPARISONS, found.comparisons)):
        (part,) = fact_parts(record, rows)
        assert list(part.schema) == [f for f in record.schema if f.name not in ("batch_id", "row_hash")]
        assert part["transient"].to_pylist() == [False] * rows.height


def test_prompt_id_of_a_fact_is_the_content_id_of_the_prompt():
    assert link(PROMPTS, ANSWERS).completions["prompt_id"][0] == content_id(
        "prompt", [{"role": "user", "content": "Hi"}]
    )


def test_what_a_table_refused_is_told_with_its_table():
    bad = table("bad.jsonl", refused=[{"row": 7, "what": "scores", "outcome": "unrated", "detail": None}])
    found = link(PROMPTS, bad)
    assert found.outcomes.rows()[-1] == ("bad.jsonl", "scores", 7, "unrated", None)
    assert found.counts() == {"prompts": {"imported": 2}, "scores": {"unrated": 1}}


def test_refusal_without_an_outcome_is_caught():
    lost: Shaped = table(refused=[{"row": 7, "what": "scores", "outcome": None, "detail": None}])
    with pytest.raises(LedgerError, match="1 scores were read and 0 have an outcome"):
        link(PROMPTS, lost)
