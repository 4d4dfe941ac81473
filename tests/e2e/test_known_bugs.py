"""Inputs on which published pipelines mislabel, misalign or lose rows, from the file to the rows of a version.

What those pipelines make of them was seen by running them: a judge's answer that is never obeyed; ties that become
pairs of a text with itself; a list of ratings that is split at a blank line; 158 of 198 pairs with the texts of another
prompt after 4 of 400 replies could not be read; a pair that differs only in what is cut off; rows lost in remainders.
"""

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from prefkit.pipeline.build import build
from prefkit.pipeline.imports.importing import Imported, import_tables
from prefkit.pipeline.recipe import Recipe
from prefkit.records import SCORES
from prefkit.sources.config import ImportConfig
from prefkit.store.verify import verify
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

Row = Mapping[str, object]
Table = tuple[Sequence[Row], Row]
"""Rows, and what `import.yaml` says they hold."""
Pair = tuple[str, str, str]
"""The texts of prompt, chosen and rejected."""

JUDGE = [{"kind": "imported", "scorer": "judge"}]
LISTS = "ultrafeedback_lists"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path)


def imported(workspace: Workspace, *tables: Table) -> Imported:
    """Imports tables of rows, each with what they hold, as the source `data`."""
    config: list[Row] = []
    for number, (rows, holds) in enumerate(tables):
        path = workspace.root.parent / f"table{number}.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        config.append({"path": str(path), **holds})
    return import_tables(workspace.facts, ImportConfig.model_validate({"name": "data", "tables": config}))


def built(workspace: Workspace, **blocks: object) -> Version:
    """A version of the source, whose accounts and bytes have been checked."""
    base: dict[str, object] = {
        "name": "data", "prompts": {"imported": "data"}, "score": JUDGE, "select": {"kind": "best_vs_worst"},
    }  # fmt: skip
    version = build(Recipe.model_validate(base | blocks), workspace, workspace.root.parent).version
    check_accounts(version)
    assert verify(workspace).damages == []
    return version


def check_accounts(version: Version) -> None:
    """Every planned key has an outcome, what these stages do not keep is listed row by row, and the rest are rows."""
    dropped = version.outcomes().collect()
    listed = (
        "prompt hygiene",
        "completion hygiene",
        "imported scores",
        "imported comparisons",
        "select",
        "pair hygiene",
    )
    for account in version.ledger:
        assert sum(account.outcomes.values()) == account.planned, account
        if account.stage in listed:
            assert dropped.filter(pl.col("stage") == account.stage).height == account.planned - account.kept, account
    assert version.ledger[-1].kept == version.frame().collect().height


def pairs(version: Version) -> set[Pair]:
    rows = version.frame().select("prompt", "chosen", "rejected").collect().rows()
    return {(p[-1]["content"], c[-1]["content"], r[-1]["content"]) for p, c, r in rows}


def outcomes(version: Version, stage: str) -> Mapping[str, int]:
    return next(a.outcomes for a in version.ledger if a.stage == stage)


# ------------------------------------------------------------------------- the judge's answer is obeyed (0 of 4 there)


def shown(prompt: str, first: str, second: str, answer: str) -> Row:
    return {"prompt": prompt, "first": first, "second": second, "answer": answer}


AS_SHOWN: Row = {
    "prompt": {"text": "prompt"},
    "completions": {"first": {"text": "first"}, "second": {"text": "second"}},
    "comparisons": [
        {
            "a": "first", "b": "second", "preference": "answer", "scorer": "=judge", "order": "=ab",
            "values": {"0": "a", "1": "b", "same": "tie"},
        }
    ],
}  # fmt: skip


def test_judge_is_obeyed_whatever_it_answered_and_whichever_text_it_saw_first(workspace: Workspace) -> None:
    cases = [
        shown(f"{answer} {first}", *((first, "no") if first == "yes" else ("no", "yes")), answer)
        for answer, first in itertools.product("01", ("yes", "no"))
    ]
    imported(workspace, (cases, AS_SHOWN))
    found = pairs(built(workspace, select={"kind": "comparisons"}))
    assert found == {("0 yes", "yes", "no"), ("0 no", "no", "yes"), ("1 yes", "no", "yes"), ("1 no", "yes", "no")}


def test_judge_that_prefers_what_it_sees_first_makes_a_tie_and_not_a_pair(workspace: Workspace) -> None:
    cases = [
        shown("steady", "good", "bad", "0"), shown("steady", "bad", "good", "1"),
        shown("biased", "good", "bad", "0"), shown("biased", "bad", "good", "0"),
        shown("level", "good", "bad", "same"), shown("level", "bad", "good", "same"),
    ]  # fmt: skip
    done = imported(workspace, (cases, AS_SHOWN))
    assert done.imported.outcomes["comparisons"] == {"imported": 4, "draw": 2}
    version = built(workspace, select={"kind": "comparisons"})
    assert pairs(version) == {("steady", "good", "bad")}
    assert outcomes(version, "select rows") == {"selected": 1, "tie": 2}


# ---------------------------------------------------------------- ratings in lists (there: crashes, shifts, self-pairs)


def rated(prompt: str, *ratings: object, rationale: str = "Fine.") -> Row:
    """Two completions, and as many ratings as given."""
    generations = [f"first of {prompt}", f"second of {prompt}"]
    return {
        "instruction": prompt, "generations": generations, "ratings": ratings,
        "rationales": [rationale] * len(ratings),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["best_vs_worst", "best_vs_random", "best_vs_second", "all_pairs"])
def test_equal_ratings_make_no_pair(workspace: Workspace, kind: str) -> None:
    imported(workspace, ([rated("tied", 3, 3), rated("clear", 3, 4)], {"adapter": LISTS}))
    version = built(workspace, score=[{"kind": "imported", "scorer": "ultrafeedback"}], select={"kind": kind})
    assert pairs(version) == {("clear", "second of clear", "first of clear")}
    assert outcomes(version, "select") == {"selected": 1, "all_tied": 1}


def test_rating_that_cannot_be_read_or_placed_costs_itself_and_nothing_else(workspace: Workspace) -> None:
    rows = [
        rated("clear", 1, 5),
        rated("blank lines", 4, 2, rationale="One.\n\nTwo.\n\n\nThree."),
        rated("null", None, 5),
        rated("words", 5, "I would rather not say"),
        rated("short", 5),
        rated("long", 1, 2, 3),
    ]
    done = imported(workspace, (rows, {"adapter": LISTS}))
    assert done.imported.outcomes == {
        "prompts": {"imported": 6},
        "completions": {"imported": 12},
        "scores": {"imported": 6, "malformed": 2, "unparsable": 1, "unrated": 1},
    }
    version = built(workspace, score=[{"kind": "imported", "scorer": "ultrafeedback"}])
    assert pairs(version) == {
        ("clear", "second of clear", "first of clear"),
        ("blank lines", "first of blank lines", "second of blank lines"),
    }
    assert outcomes(version, "select") == {"selected": 2, "one_completion": 2, "unscored": 2}
    told = workspace.facts.read(SCORES, ["score", "rationale"]).filter(pl.col("rationale").str.contains("\n\n"))
    assert sorted(told.rows()) == [(2.0, "One.\n\nTwo.\n\n\nThree."), (4.0, "One.\n\nTwo.\n\n\nThree.")]


def test_ranks_are_places_and_not_positions(workspace: Workspace) -> None:
    """Ranks 2, 3, 1 of A, B, C put C first and B last; taken for positions they would put B first and A last."""
    row = {"prompt": "p", "A": "text A", "B": "text B", "C": "text C", "a": 2, "b": 3, "c": 1}
    places = {"1": 3, "2": 2, "3": 1}
    holds: Row = {
        "prompt": {"text": "prompt"},
        "completions": {slot: {"text": slot} for slot in "ABC"},
        "scores": [{"of": s, "score": s.lower(), "scorer": "=judge", "values": places} for s in "ABC"],
    }
    imported(workspace, ([row], holds))
    assert pairs(built(workspace)) == {("p", "text C", "text B")}


# ----------------------------------------------------------- 200 prompts, two completions each (there: 80 % misaligned)

PROMPTS = 200
REFUSED = (3, 57, 120, 199)
"""Prompts for whose better completion the judge gave no rating."""
REFUSAL = "I cannot rate this.\n\nSorry."


def rationale(number: int) -> str:
    return "First.\n\nSecond.\n\nRating: 1" if number % 50 == 11 else "Good."


def ratings(number: int) -> list[object]:
    """The ratings of the better and the worse completion."""
    return [REFUSAL if number in REFUSED else 5, 2]


def texts(number: int) -> list[str]:
    return [f"better for {number}", f"worse for {number}"]


def one_row_a_prompt() -> list[Table]:
    def said(number: int, rating: object) -> Row:
        return {"Rating": str(rating), "Rationale": rationale(number)}

    def completion(number: int, text: str, rating: object) -> Row:
        return {"model": "m", "response": text, "annotations": {"helpfulness": said(number, rating)}}

    rows = [
        {
            "instruction": f"prompt {n}",
            "completions": [completion(n, t, r) for t, r in zip(texts(n), ratings(n), strict=True)],
        }
        for n in range(PROMPTS)
    ]
    return [(rows, {"adapter": "ultrafeedback"})]


def parallel_lists() -> list[Table]:
    rows = [
        {"instruction": f"prompt {n}", "generations": texts(n), "ratings": ratings(n), "rationales": [rationale(n)] * 2}
        for n in range(PROMPTS)
    ]
    return [(rows, {"adapter": LISTS})]


def related_files() -> list[Table]:
    """Completions and ratings in files of their own, each in an order of its own."""
    asked = [{"id": n, "prompt": f"prompt {n}"} for n in range(PROMPTS)]
    written = [{"id": n, "key": k, "text": texts(n)[k]} for n in range(PROMPTS) for k in range(2)]
    said = [{"id": w["id"], "of": w["key"], "rating": ratings(w["id"])[w["key"]]} for w in written]
    shuffled = random.Random(0)
    for rows in (asked, written, said):
        shuffled.shuffle(rows)
    key = {"key": "id"}
    score = {"of": "of", "score": "rating", "scorer": "=judge"}
    return [
        (said, {"prompt": key, "scores": [score]}),
        (written, {"prompt": key, "completions": {"reply": {"text": "text", "key": "key"}}}),
        (asked, {"prompt": {"text": "prompt", **key}}),
    ]


@pytest.mark.parametrize(
    ("tables", "scorer"),
    [
        (one_row_a_prompt, {"scorer": "gpt-4", "aspect": "helpfulness"}),
        (parallel_lists, {"scorer": "ultrafeedback"}),
        (related_files, {"scorer": "judge"}),
    ],
    ids=["one row a prompt", "parallel lists", "related files"],
)
def test_replies_that_cannot_be_read_misalign_no_row_and_are_no_lowest_rating(
    workspace: Workspace, tables: Callable[[], list[Table]], scorer: Row
) -> None:
    done = imported(workspace, *tables())
    assert done.imported.outcomes["scores"] == {"imported": 2 * PROMPTS - 4, "unparsable": 4}
    version = built(workspace, score=[{"kind": "imported", **scorer}])
    assert pairs(version) == {(f"prompt {n}", *texts(n)) for n in range(PROMPTS) if n not in REFUSED}
    assert outcomes(version, "imported scores") == {"rated": 2 * PROMPTS - 4, "unparsable": 4}
    assert outcomes(version, "select") == {"selected": PROMPTS - 4, "one_completion": 4}


# -------------------------------------------------------------------------------- nothing is cut, and no order decides


def test_pair_that_differs_only_at_its_end_reaches_the_version_whole(workspace: Workspace) -> None:
    prompt, shared = "word " * 12_000, "step " * 4_000
    row = {"prompt": prompt, "first": f"{shared}right", "second": f"{shared}wrong", "answer": "0"}
    imported(workspace, ([row], AS_SHOWN))
    found = pairs(built(workspace, select={"kind": "comparisons"}))
    assert found == {(prompt, f"{shared}right", f"{shared}wrong")}


def test_order_of_files_and_rows_decides_nothing(tmp_path: Path) -> None:
    """With equal best ratings, equal texts of two models, and ties."""
    models = "abcde"
    asked = [{"id": n, "prompt": f"prompt {n}"} for n in range(9)]
    written = [{"id": n, "model": m, "text": f"{'a' if m == 'e' else m} on {n}"} for n in range(9) for m in models]
    said = [
        {"id": n, "of": m, "score": 3 if n == 8 else score}
        for n in range(9)
        for m, score in zip(models, (5, 5, 1, 1, 4), strict=True)
    ]
    key = {"key": "id"}
    holds: list[tuple[list[Row], Row]] = [
        (list(asked), {"prompt": {"text": "prompt", **key}}),
        (list(written), {"prompt": key, "completions": {"reply": {"text": "text", "model": "model"}}}),
        (list(said), {"prompt": key, "scores": [{"of": "of", "score": "score", "scorer": "=judge"}]}),
    ]
    found: list[tuple[set[Pair], list[Mapping[str, int]]]] = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        workspace = Workspace.create(folder)
        imported(workspace, *holds)
        version = built(workspace)
        found.append((pairs(version), [a.outcomes for a in version.ledger]))
        random.Random(seed).shuffle(holds)
        for rows, _ in holds:
            random.Random(seed).shuffle(rows)
    assert len(found[0][0]) == 8
    assert found[1:] == found[:1] * 2


def test_import_under_the_same_name_leaves_the_versions_made_before(workspace: Workspace) -> None:
    imported(workspace, ([rated("p", 1, 2)], {"adapter": LISTS}))
    by = [{"kind": "imported", "scorer": "ultrafeedback"}]
    before = built(workspace, score=by)
    imported(workspace, ([rated("p", 2, 1)], {"adapter": LISTS}))
    after = built(workspace, score=by)
    assert pairs(before) == {("p", "second of p", "first of p")}
    assert pairs(after) == {("p", "first of p", "second of p")}
    assert (before.label, after.label) == ("data@v1", "data@v2")


# ------------------------------------------------------------------------------------------- nothing is lost at the end


@pytest.mark.parametrize(("size", "batch"), [(1, 8), (7, 3), (101, 8), (4_099, 1_024)])
def test_nothing_is_lost_in_the_remainder_of_a_batch(workspace: Workspace, size: int, batch: int) -> None:
    rows = [{"instruction": f"prompt {n}", "generations": texts(n), "ratings": [5, 2]} for n in range(size)]
    done = imported(workspace, (rows, {"adapter": LISTS}))
    assert done.imported.outcomes["completions"] == {"imported": 2 * size}
    rule = {"kind": "verifier", "name": "regex", "pattern": "^better", "batch_size": batch}
    version = built(workspace, score=[rule])
    assert outcomes(version, "score") == {"scored": 2 * size}
    assert pairs(version) == {(f"prompt {n}", *texts(n)) for n in range(size)}
