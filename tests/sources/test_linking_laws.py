"""What holds of any tables, however bad: every record has one outcome, and nothing is said of another prompt's text."""

from collections.abc import Sequence
from random import Random
from typing import TypeAlias

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.sources.linking.records import SCHEMAS
from prefkit.sources.linking.whole import Linked
from prefkit.sources.shaped import Shaped
from tests.sources.shaped_tables import Row, answer, compared, ends, link, of, said, score, table

FEW = settings(max_examples=15)
KINDS = ("prompts", "completions", "scores", "comparisons")
Rows: TypeAlias = dict[str, list[Row]]

PROMPT_KEYS = st.sampled_from(["p", "q", "r", "unheard"])
WORDS = st.sampled_from(["P", "Q", "R", "P", None, " "])
NAMES = st.sampled_from(["A", "B", "C", None])
REFERENCES = st.builds(
    of, st.sampled_from(["A", "B", "k", "nobody", None]), seen=st.sampled_from([None, None, "shown"])
)
VALUES = st.sampled_from([0.0, 0.3, 0.5, 1.0, None, float("nan")])
FAILURES = st.sampled_from([None, None, "unparsable"])


@st.composite
def keyed_rows(draw: st.DrawFn) -> Rows:
    """Rows of prompts, completions and ratings that name prompts by keys; of each completion the text tells whose."""
    prompts = draw(st.lists(st.builds(said, WORDS, PROMPT_KEYS), max_size=5))
    owners: dict[str, str] = {}
    for row in prompts:
        if row["text"] in ("P", "Q", "R"):
            owners.setdefault(str(row["key"]), str(row["text"]))

    def tag(key: str) -> str:
        return owners.get(key, "nobody's")

    completions: list[Row] = [
        {**answer(key, text and f"{tag(key)}: {text}", model), "key": name}
        for key, text, model, name in draw(
            st.lists(
                st.tuples(PROMPT_KEYS, st.sampled_from(["x", "y", None]), NAMES, st.sampled_from(["k", None])),
                max_size=6,
            )
        )
    ]
    about = st.tuples(PROMPT_KEYS, REFERENCES, REFERENCES, VALUES, st.sampled_from(["ann", "bob"]), FAILURES)
    scores: list[Row] = []
    comparisons: list[Row] = []
    for key, a, b, value, scorer, failure in draw(st.lists(about, max_size=8)):
        a, b = ({**r, "seen": r["seen"] and f"{tag(key)}: {r['seen']}"} for r in (a, b))
        why = tag(key)
        order = draw(st.sampled_from(["ab", "ba", None]))
        scores.append(score(key, a, value, scorer, rationale=why, failure=failure))
        comparisons.append(compared(key, a, b, value, scorer, rationale=why, failure=failure, order=order))
    return {"prompts": prompts, "completions": completions, "scores": scores, "comparisons": comparisons}


@st.composite
def worded_rows(draw: st.DrawFn) -> Rows:
    """Rows of a prompt in words, two completions of it and what was said of them; keys may be another prompt's."""
    rows: Rows = {kind: [] for kind in KINDS}
    for number in range(1, draw(st.integers(0, 6)) + 1):
        words = draw(WORDS)
        key = draw(st.sampled_from(["p", "q", f"own{number}"]))
        texts = [t and f"{words}: {t}" for t in draw(st.tuples(*[st.sampled_from(["x", "y", None])] * 2))]
        rows["prompts"].append(said(words, key, row=number))
        for slot, text in zip("ab", texts, strict=True):
            rows["completions"].append(answer(key, text, draw(NAMES), slot=slot, row=number))
            rows["scores"].append(score(key, of(slot=slot), draw(VALUES), row=number, rationale=str(words)))
        verdict = compared(key, of(slot="a"), of(slot="b"), draw(VALUES), row=number, rationale=str(words))
        rows["comparisons"].append(verdict)
    return rows


def one_table(rows: Rows, name: str = "t", *, keyed: bool = True) -> Shaped:
    ratings = {"scores": rows["scores"], "comparisons": rows["comparisons"]}
    return table(name, keyed=keyed, prompts=rows["prompts"], completions=rows["completions"], **ratings)


def three_tables(rows: Rows) -> list[Shaped]:
    ratings = table("ratings", scores=rows["scores"], comparisons=rows["comparisons"])
    return [table("prompts", prompts=rows["prompts"]), table("completions", completions=rows["completions"]), ratings]


def ids(found: Linked) -> dict[str, set[bytes]]:
    return {
        name: set(getattr(found, name)["id"]) for name in ("prompts", "tasks", "completions", "scores", "comparisons")
    }


def unaccounted(found: Linked, tables: Sequence[Shaped]) -> dict[str, tuple[int, int]]:
    """By kind, records that went in and outcomes that came out, or facts counted and facts there, where they differ."""
    facts = {"prompts": found.tasks, "completions": found.completions, "scores": found.scores}
    facts["comparisons"] = found.comparisons
    wrong: dict[str, tuple[int, int]] = {}
    for what in SCHEMAS:
        there = sum(len(getattr(t, what)) for t in tables)
        seen = found.outcomes.filter(pl.col("detail") == "the text that the scorer saw", what=what).height
        imported = sum(n for o, n in found.counts().get(what, {}).items() if o in KEPT)
        if len(ends(found, what)) != there + seen:
            wrong[f"{what}: records"] = (there + seen, len(ends(found, what)))
        if imported != facts[what]["id"].n_unique():
            wrong[f"{what}: facts"] = (imported, facts[what]["id"].n_unique())
    return wrong


KEPT = ("imported", "draw", "unparsable")


def strangers(found: Linked) -> list[bytes]:
    """Completions whose text, and ratings whose rationale, is of another prompt than they were linked to."""
    prompts = {i: messages[0]["content"] for i, messages in found.prompts.select("id", "messages").iter_rows()}
    owner = {i: prompts[prompt] for i, prompt in found.completions.select("id", "prompt_id").iter_rows()}
    wrong = [
        i for i, text in found.completions.select("id", "text").iter_rows() if not text.startswith(f"{owner[i]}: ")
    ]
    wrong += [
        i for i, of, said in found.scores.select("id", "completion_id", "rationale").iter_rows() if owner[of] != said
    ]
    sides = found.comparisons.select("id", "completion_a", "completion_b", "rationale").iter_rows()
    return wrong + [i for i, a, b, said in sides if not (a < b and owner[a] == owner[b] == said)]


@FEW
@given(keyed_rows())
def test_tables_that_name_prompts_by_keys_are_accounted_for_and_cross_no_prompts(rows: Rows):
    tables = three_tables(rows)
    found = link(*tables)
    assert unaccounted(found, tables) == {}
    assert set(found.completion_keys["completion_id"]) == set(found.completions["id"])
    assert strangers(found) == []


@FEW
@given(worded_rows(), st.booleans())
def test_tables_with_prompts_in_words_are_accounted_for_and_cross_no_prompts(rows: Rows, keyed: bool):
    if not keyed:  # then a key is a name within the table, one for each row
        rows = {kind: [{**row, _name(kind): str(row["row"])} for row in part] for kind, part in rows.items()}
    tables = [one_table(rows, keyed=keyed)]
    found = link(*tables)
    assert unaccounted(found, tables) == {}
    assert set(found.completion_keys["completion_id"]) == set(found.completions["id"])
    assert strangers(found) == []


def _name(kind: str) -> str:
    return "key" if kind == "prompts" else "prompt"


@FEW
@given(keyed_rows(), st.integers(0, 8), st.integers(0, 8))
def test_tables_split_over_two_files_are_what_they_are_as_one(rows: Rows, first: int, second: int):
    whole = link(*three_tables(rows))
    parts = [
        table("prompts", prompts=rows["prompts"]),
        table("1", completions=rows["completions"][:first]),
        table("2", completions=rows["completions"][first:]),
        table("3", scores=rows["scores"][:second]),
        table("4", scores=rows["scores"][second:], comparisons=rows["comparisons"]),
    ]
    split = link(*parts)
    assert ids(split) == ids(whole)
    assert split.counts() == whole.counts()


@FEW
@given(keyed_rows(), st.randoms())
def test_order_of_tables_does_not_matter(rows: Rows, random: Random):
    tables = three_tables(rows)
    shuffled = random.sample(tables, len(tables))
    assert ids(link(*shuffled)) == ids(link(*tables))


@FEW
@given(worded_rows())
def test_same_rows_twice_bring_nothing_new(rows: Rows):
    # Rated rows: in a table of completions alone, a row said twice is two samples
    once, twice = link(one_table(rows)), link(one_table(rows, "1"), one_table(rows, "2"))
    assert ids(twice) == ids(once)
