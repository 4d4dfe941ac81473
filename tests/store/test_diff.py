"""What changed between two versions: planted changes are found, all of them and no others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.identity import Json
from prefkit.records import ID
from prefkit.store.diff import Change, RecipeChange, pairs_diff, recipe_changes, version_diff
from prefkit.store.manifest import Content
from prefkit.store.versions import Version, Versions, write_rows

PAIR_SCHEMA = {
    "pair_id": pl.Binary, "prompt_id": pl.Binary, "chosen_id": pl.Binary, "rejected_id": pl.Binary,
    "score_margin": pl.Float64, "split": pl.String,
}  # fmt: skip
SUBSET_SCHEMA = {
    "prompt_id": pl.Binary, "completion_id": pl.Binary, "label": pl.Boolean, "score": pl.Float64, "weight": pl.Float64,
    "split": pl.String,
}  # fmt: skip


class Pair(NamedTuple):
    """A pair of a prompt's completions, named by numbers."""

    prompt: int
    chosen: int
    rejected: int
    margin: float = 1.0
    split: str = "train"

    @property
    def id(self) -> bytes:
        return row_id(f"{self.chosen}>{self.rejected}")


class Row(NamedTuple):
    """A single completion."""

    completion: int
    label: bool | None = None
    score: float | None = None
    weight: float | None = None
    prompt: int = 0
    split: str = "train"


def row_id(name: str) -> bytes:
    return name.encode().rjust(16, b".")


def pairs_frame(pairs: Sequence[Pair]) -> pl.DataFrame:
    columns = [
        (p.id, row_id(f"prompt {p.prompt}"), row_id(str(p.chosen)), row_id(str(p.rejected)), p.margin, p.split)
        for p in pairs
    ]
    return pl.DataFrame(columns, PAIR_SCHEMA, orient="row")


def subset_frame(rows: Sequence[Row]) -> pl.DataFrame:
    columns = [
        (row_id(f"prompt {r.prompt}"), row_id(str(r.completion)), r.label, r.score, r.weight, r.split) for r in rows
    ]
    return pl.DataFrame(columns, SUBSET_SCHEMA, orient="row")


def stored(rows: pl.DataFrame) -> pa.Table:
    """The rows in the types of a version's files."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(pa.schema([(f.name, ID if f.name.endswith("_id") else f.type) for f in table.schema]))


def published(
    folder: Path, rows: pl.DataFrame, name: str = "arithmetic", recipe: Mapping[str, Json] | None = None
) -> Version:
    versions = Versions(folder)
    draft = versions.draft()
    kind, own = ("pairs", "pair_id") if "pair_id" in rows.columns else ("subset", "completion_id")
    parts = {split: stored(rows.filter(split=split).drop("split")) for split in rows["split"].unique()}
    files = {split: write_rows(draft / f"{split}.arrow", part, own) for split, part in parts.items()}
    content: Content = {"kind": kind, "recipe": recipe or {}, "files": files}  # type: ignore[typeddict-item]
    return versions.publish(versions.next(name), draft, content, {}, {})  # type: ignore[typeddict-item]


def ids(lines: pl.DataFrame, change: Change, column: str) -> list[bytes]:
    return sorted(lines.filter(pl.col("change") == change)[column].to_list())


def changed(diff_counts: Mapping[Change, int]) -> dict[Change, int]:
    return {change: count for change, count in diff_counts.items() if count and change != Change.UNCHANGED}


def ordinary(prompts: int) -> list[Pair]:
    """Three pairs of six completions for each prompt, a tenth of the prompts held out."""
    return [
        Pair(p, 100 * p + n, 100 * p + 10 + n, 0.5, "test" if p % 10 == 0 else "train")
        for p in range(prompts)
        for n in range(3)
    ]


def test_version_diff_planted_changes_are_all_found_and_no_others(tmp_path: Path) -> None:
    old = ordinary(200)
    new = {pair: pair for pair in old}
    flips, moves, other_rejected, other_chosen = old[0:40:4], old[1:61:4], old[2:42:4], old[3:43:4]
    dropped, moved_splits = old[100:120], old[203:206]
    new |= {p: p._replace(chosen=p.rejected, rejected=p.chosen) for p in flips}
    new |= {p: p._replace(margin=0.75) for p in moves}
    new |= {p: p._replace(rejected=90_000 + p.rejected) for p in other_rejected}
    new |= {p: p._replace(chosen=90_000 + p.chosen) for p in other_chosen}
    new |= {p: p._replace(split="test") for p in moved_splits}
    added = [Pair(p, 80_000 + p, 81_000 + p) for p in (*range(50, 57), 900)]
    after = [*added, *(new[p] for p in reversed(old) if p not in dropped)]

    found = version_diff(published(tmp_path, pairs_frame(old)), published(tmp_path, pairs_frame(after)))

    assert found.counts == {
        Change.PROMPT_ADDED: 1,  # 900
        Change.PROMPT_DROPPED: 6,  # pairs 100 to 119 are two of prompt 33 and all of 34 to 39
        Change.ADDED: 8,
        Change.DROPPED: 20,
        Change.FLIPPED: 10,
        Change.CHOSEN_REPLACED: 10,
        Change.REJECTED_REPLACED: 10,
        Change.MARGIN_MOVED: 15,
        Change.SPLIT_MOVED: 3,
        Change.UNCHANGED: 600 - 20 - 10 - 10 - 10 - 15,
    }
    assert ids(found.changes, Change.FLIPPED, "old_id") == sorted(p.id for p in flips)
    assert ids(found.changes, Change.FLIPPED, "new_id") == sorted(new[p].id for p in flips)
    assert ids(found.changes, Change.ADDED, "new_id") == sorted(p.id for p in added)
    assert ids(found.changes, Change.DROPPED, "old_id") == sorted(p.id for p in dropped)
    assert ids(found.changes, Change.CHOSEN_REPLACED, "new_id") == sorted(new[p].id for p in other_chosen)
    assert ids(found.changes, Change.REJECTED_REPLACED, "new_id") == sorted(new[p].id for p in other_rejected)
    assert ids(found.changes, Change.MARGIN_MOVED, "old_id") == sorted(p.id for p in moves)
    assert ids(found.changes, Change.SPLIT_MOVED, "old_id") == sorted(p.id for p in moved_splits)


def test_version_diff_rows_in_another_order_are_unchanged(tmp_path: Path) -> None:
    rows = ordinary(20)
    found = version_diff(
        published(tmp_path, pairs_frame(rows)), published(tmp_path, pairs_frame(rows[::-1]), "other_name")
    )
    assert changed(found.counts) == {}
    assert found.counts[Change.UNCHANGED] == 60
    assert found.changes.is_empty()
    assert (found.old, found.new) == ("arithmetic@v1", "other_name@v1")


def test_version_diff_changes_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    # Four pairs of one chosen completion become four others: which stands for which is not left to the order of rows.
    old, new = ([Pair(p, p, 1_000 + 10 * n + start) for p in range(5) for n in range(4)] for start in (0, 5))
    first = version_diff(published(tmp_path, pairs_frame(old)), published(tmp_path, pairs_frame(new)))
    again = version_diff(published(tmp_path, pairs_frame(old[::-1])), published(tmp_path, pairs_frame(new)))
    assert changed(first.counts) == {Change.REJECTED_REPLACED: 20}
    assert first.changes.equals(again.changes)


def test_version_diff_margin_moved_tells_both_margins_and_splits(tmp_path: Path) -> None:
    old, new = (
        published(tmp_path, pairs_frame([Pair(0, 1, 2, 0.5)])),
        published(tmp_path, pairs_frame([Pair(0, 1, 2, 0.25, "test")])),
    )
    lines = version_diff(old, new).changes
    assert lines["change"].to_list() == [Change.MARGIN_MOVED, Change.SPLIT_MOVED]
    assert lines.select("old_score_margin", "new_score_margin", "old_split", "new_split").rows() == [
        (0.5, 0.25, "train", "test"),
        (0.5, 0.25, "train", "test"),
    ]


def test_pairs_diff_replaced_side_is_matched_one_to_one() -> None:
    # 1 was chosen twice and is chosen once more than before: two replacements, and the third has no partner.
    old = pairs_frame([Pair(0, 1, 2), Pair(0, 1, 3)])
    new = pairs_frame([Pair(0, 1, 4), Pair(0, 1, 5), Pair(0, 1, 6)])
    found = pairs_diff(old, new)["change"].value_counts()
    assert dict(found.iter_rows()) == {Change.REJECTED_REPLACED: 2, Change.ADDED: 1}


def test_pairs_diff_the_same_pair_is_matched_before_a_replaced_one() -> None:
    old = pairs_frame([Pair(0, 1, 3), Pair(0, 1, 2)])
    new = pairs_frame([Pair(0, 1, 4), Pair(0, 1, 3)])
    found = pairs_diff(old, new).select("change", "old_id", "new_id").rows()
    assert sorted(found) == [
        (Change.REJECTED_REPLACED, Pair(0, 1, 2).id, Pair(0, 1, 4).id),
        (Change.UNCHANGED, Pair(0, 1, 3).id, Pair(0, 1, 3).id),
    ]


def test_pairs_diff_completions_of_another_prompt_are_never_matched() -> None:
    found = pairs_diff(pairs_frame([Pair(0, 1, 2)]), pairs_frame([Pair(7, 1, 3)]))
    assert sorted(found["change"].to_list()) == [Change.ADDED, Change.DROPPED]


some_pairs = st.lists(
    st.builds(Pair, st.integers(0, 1), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.5, 1.0])), max_size=12
)


@given(some_pairs, some_pairs)
def test_pairs_diff_every_pair_is_in_exactly_one_match_that_holds(old: list[Pair], new: list[Pair]) -> None:
    # Numbered here, so that the same pair twice in one version is two rows.
    before, after = (
        pairs_frame(p).with_columns(pair_id=pl.Series([row_id(str(i)) for i in range(len(p))], dtype=pl.Binary))
        for p in (old, new)
    )
    matches = pairs_diff(before, after)
    assert sorted(matches["old_id"].drop_nulls()) == sorted(before["pair_id"])
    assert sorted(matches["new_id"].drop_nulls()) == sorted(after["pair_id"])
    for change, old_id, new_id in matches.select("change", "old_id", "new_id").iter_rows():
        was = old[int(old_id.strip(b"."))] if old_id else None
        now = new[int(new_id.strip(b"."))] if new_id else None
        assert relation(was, now) == change


def relation(was: Pair | None, now: Pair | None) -> Change:
    """What a match of these two pairs has to be called."""
    if was is None or now is None:
        return Change.ADDED if was is None else Change.DROPPED
    assert was.prompt == now.prompt
    if (was.chosen, was.rejected) == (now.chosen, now.rejected):
        return Change.UNCHANGED if was.margin == now.margin else Change.MARGIN_MOVED
    if (was.chosen, was.rejected) == (now.rejected, now.chosen):
        return Change.FLIPPED
    assert was.chosen == now.chosen or was.rejected == now.rejected
    return Change.REJECTED_REPLACED if was.chosen == now.chosen else Change.CHOSEN_REPLACED


@given(some_pairs, some_pairs)
def test_pairs_diff_finds_every_pair_that_both_versions_have(old: list[Pair], new: list[Pair]) -> None:
    before, after = (Counter((p.prompt, p.chosen, p.rejected) for p in pairs) for pairs in (old, new))
    found = dict(pairs_diff(pairs_frame(old), pairs_frame(new))["change"].value_counts().iter_rows())
    assert found.get(Change.UNCHANGED, 0) + found.get(Change.MARGIN_MOVED, 0) == (before & after).total()


@pytest.mark.parametrize(
    ("now", "change"),
    [
        (Row(1, label=False, score=0.0, weight=2.0), Change.LABEL_FLIPPED),
        (Row(1, label=True, score=0.5, weight=2.0), Change.SCORE_MOVED),
        (Row(1, label=True, score=1.0, weight=2.0), Change.WEIGHT_MOVED),
        (Row(1, label=True, score=1.0, weight=1.0), Change.UNCHANGED),
        (Row(1, label=True, score=1.0, weight=1.0, split="test"), Change.SPLIT_MOVED),
        (Row(1, label=True, score=1.0, weight=None), Change.WEIGHT_MOVED),
    ],
)
def test_version_diff_of_subsets_names_the_first_value_that_differs(tmp_path: Path, now: Row, change: Change) -> None:
    old = [Row(1, label=True, score=1.0, weight=1.0), Row(2), Row(3)]
    found = version_diff(
        published(tmp_path, subset_frame(old)), published(tmp_path, subset_frame([Row(4), Row(3), now]))
    )
    expected = {Change.ADDED: 1, Change.DROPPED: 1, change: 1}
    expected.pop(Change.UNCHANGED, None)
    assert changed(found.counts) == expected
    assert ids(found.changes, Change.ADDED, "new_id") == [row_id("4")]
    assert ids(found.changes, Change.DROPPED, "old_id") == [row_id("2")]


def test_version_diff_of_two_kinds_compares_prompts_and_says_so(tmp_path: Path) -> None:
    old = published(tmp_path, pairs_frame([Pair(0, 1, 2), Pair(1, 3, 4)]))
    new = published(tmp_path, subset_frame([Row(1, prompt=0), Row(5, prompt=2), Row(6, prompt=2)]))
    found = version_diff(old, new)
    assert found.counts == {Change.PROMPT_ADDED: 1, Change.PROMPT_DROPPED: 1}
    assert ids(found.changes, Change.PROMPT_ADDED, "prompt_id") == [row_id("prompt 2")]
    assert found.note is not None
    assert "arithmetic@v1 holds pairs and arithmetic@v2 holds subset" in found.note


def test_version_diff_summary_holds_counts_and_recipe_changes_as_plain_data(tmp_path: Path) -> None:
    old = published(tmp_path, pairs_frame([Pair(0, 1, 2)]), recipe={"select": {"seed": 0}})
    new = published(tmp_path, pairs_frame([Pair(0, 2, 1)]), recipe={"select": {"seed": 1}})
    summary = version_diff(old, new).summary()
    assert summary["recipe_changes"] == [{"path": "select.seed", "old": 0, "new": 1}]
    counts = summary["counts"]
    assert isinstance(counts, dict)
    assert counts["flipped"] == 1


def test_recipe_changes_values_that_differ_have_their_path_and_others_are_left_out() -> None:
    old: Json = {
        "limit": None,
        "sample": [{"n": 8, "seed": 0, "stop": []}],
        "select": {"kind": "best_vs_worst", "per_prompt": 1},
    }
    new: Json = {
        "limit": None,
        "sample": [{"n": 12, "seed": 0, "stop": ["#"]}, {"n": 4}],
        "select": {"kind": "top_k_per_prompt", "k": 1},
    }
    assert recipe_changes(old, new) == [
        RecipeChange("sample[0].n", 8, 12),
        RecipeChange("sample[0].stop", [], ["#"]),
        RecipeChange("sample[1].n", None, 4),
        RecipeChange("select.k", None, 1),
        RecipeChange("select.kind", "best_vs_worst", "top_k_per_prompt"),
        RecipeChange("select.per_prompt", 1, None),
    ]
