"""What changed between two versions, in the language of preferences.

Rows are matched by the ids of their completions, prompt by prompt and one to one: first the rows that are the same,
then pairs turned around, then pairs that keep one side. What is left was added or dropped. So every row of either
version is in exactly one match:

    old rows = unchanged + margin_moved + flipped + rejected_replaced + chosen_replaced + dropped
    new rows = unchanged + margin_moved + flipped + rejected_replaced + chosen_replaced + added

Of single completions, those in both versions are unchanged, label_flipped, score_moved or weight_moved. Prompts that
came or went, and rows that moved between train and test, are counted beside the rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from prefkit.identity import Json, canonical_json
from prefkit.store.versions import Version


class Change(StrEnum):
    """What happened to a row or a prompt, in the order in which changes are listed."""

    PROMPT_ADDED = "prompt_added"
    """The old version has no row of this prompt."""
    PROMPT_DROPPED = "prompt_dropped"
    """The new version has no row of this prompt."""
    ADDED = "added"
    """No row of the old version stands for this one."""
    DROPPED = "dropped"
    """No row of the new version stands for this one."""
    FLIPPED = "flipped"
    """Chosen and rejected changed places."""
    CHOSEN_REPLACED = "chosen_replaced"
    """The pair has the same rejected completion and another chosen one."""
    REJECTED_REPLACED = "rejected_replaced"
    """The pair has the same chosen completion and another rejected one."""
    MARGIN_MOVED = "margin_moved"
    """The same pair with another `score_margin`."""
    LABEL_FLIPPED = "label_flipped"
    """The same completion with another label."""
    SCORE_MOVED = "score_moved"
    """The same completion and label with another score."""
    WEIGHT_MOVED = "weight_moved"
    """The same completion, label and score with another weight."""
    SPLIT_MOVED = "split_moved"
    """The row changed between train and test, whatever else happened to it."""
    UNCHANGED = "unchanged"
    """The same row."""


CHANGE = pl.Enum(Change)
PAIR_VALUES = ("split", "score_margin")
SUBSET_VALUES = ("split", "label", "score", "weight")
PROMPT_CHANGES = (Change.PROMPT_ADDED, Change.PROMPT_DROPPED)
PAIR_CHANGES = (
    Change.ADDED, Change.DROPPED, Change.FLIPPED, Change.CHOSEN_REPLACED, Change.REJECTED_REPLACED, Change.MARGIN_MOVED,
    Change.SPLIT_MOVED, Change.UNCHANGED,
)  # fmt: skip
SUBSET_CHANGES = (
    Change.ADDED, Change.DROPPED, Change.LABEL_FLIPPED, Change.SCORE_MOVED, Change.WEIGHT_MOVED, Change.SPLIT_MOVED,
    Change.UNCHANGED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecipeChange:
    """A value of the recipe that differs; None where a recipe has no such value."""

    path: str
    """As in `sample[0].temperature`."""
    old: Json
    new: Json


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """What changed from one version to another."""

    old: str
    new: str
    counts: Mapping[Change, int]
    """Every change that versions of this kind can have, 0 included."""
    changes: pl.DataFrame
    """One line per change but `unchanged`: `change`, `prompt_id`, `old_id` and `new_id` (pair ids, or completion ids of
    a subset), and `old_` and `new_` values; sorted by prompt, change and ids."""
    recipe_changes: tuple[RecipeChange, ...]
    note: str | None = None
    """Why rows were not compared, when they were not."""

    def summary(self) -> dict[str, Json]:
        """Everything but the single changes, as plain data."""
        return {
            "old": self.old,
            "new": self.new,
            "counts": {str(change): count for change, count in self.counts.items()},
            "recipe_changes": [{"path": c.path, "old": c.old, "new": c.new} for c in self.recipe_changes],
            "note": self.note,
        }


def version_diff(old: Version, new: Version) -> VersionDiff:
    """What changed from `old` to `new`, which may have different names. Of two kinds only prompts are compared."""
    kinds = [str(v.content["kind"]) for v in (old, new)]
    recipe = tuple(recipe_changes(old.content["recipe"], new.content["recipe"]))
    if kinds[0] != kinds[1]:
        note = f"{old.label} holds {kinds[0]} and {new.label} holds {kinds[1]}: rows are not compared, only prompts"
        lines = prompts_diff(*(v.frame().select("prompt_id").collect() for v in (old, new)))
        return VersionDiff(old.label, new.label, _counts(lines, PROMPT_CHANGES), lines, recipe, note)
    pairs = kinds[0] == "pairs"
    columns = ["pair_id", "chosen_id", "rejected_id", *PAIR_VALUES] if pairs else ["completion_id", *SUBSET_VALUES]
    before, after = (v.frame().select("prompt_id", *columns).collect() for v in (old, new))
    rows = pairs_diff(before, after) if pairs else subset_diff(before, after)
    lines = pl.concat([prompts_diff(before, after), rows, split_moves(rows)], how="diagonal")
    counts = _counts(lines, (*PROMPT_CHANGES, *(PAIR_CHANGES if pairs else SUBSET_CHANGES)))
    lines = lines.filter(pl.col("change") != Change.UNCHANGED)
    lines = lines.select(
        "change", "prompt_id", "old_id", "new_id", pl.exclude("change", "prompt_id", "old_id", "new_id")
    )
    return VersionDiff(old.label, new.label, counts, lines.sort("prompt_id", "change", "old_id", "new_id"), recipe)


def prompts_diff(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """One line (`change`, `prompt_id`) per prompt that only one of the frames has a row of, sorted by prompt."""
    before, after = (rows.select("prompt_id").unique() for rows in (old, new))
    came = after.join(before, on="prompt_id", how="anti").select(_told(Change.PROMPT_ADDED), "prompt_id")
    went = before.join(after, on="prompt_id", how="anti").select(_told(Change.PROMPT_DROPPED), "prompt_id")
    return pl.concat([came, went]).sort("prompt_id")


def pairs_diff(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """One line per match of the pairs of two versions, in no promised order: each row of either is in exactly one.

    Needs `pair_id`, `prompt_id`, `chosen_id`, `rejected_id`, `score_margin`, `split`. Gives `change`, `prompt_id`,
    `old_id`, `new_id` (null where a pair was added or dropped), and the `old_` and `new_` split and score margin.
    """
    keys = ("prompt_id", "chosen_id", "rejected_id")
    before, after = _side(old, "old", "pair_id", keys), _side(new, "new", "pair_id", keys)
    moved = pl.col("old_score_margin").ne_missing(pl.col("new_score_margin"))
    same = pl.when(moved).then(_told(Change.MARGIN_MOVED)).otherwise(_told(Change.UNCHANGED))
    found: list[pl.DataFrame] = []
    for old_keys, new_keys, change in (
        (keys, keys, same),
        (keys, ("prompt_id", "rejected_id", "chosen_id"), _told(Change.FLIPPED)),
        (("prompt_id", "chosen_id"), ("prompt_id", "chosen_id"), _told(Change.REJECTED_REPLACED)),
        (("prompt_id", "rejected_id"), ("prompt_id", "rejected_id"), _told(Change.CHOSEN_REPLACED)),
    ):
        matched, before, after = _matched(before, after, old_keys, new_keys, "score_margin")
        found.append(matched.with_columns(change.alias("change")))
    return _lines(found, before, after, PAIR_VALUES)


def subset_diff(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """As `pairs_diff`, for single completions: `prompt_id`, `completion_id`, `split`, `label`, `score`, `weight`."""
    keys = ("prompt_id", "completion_id")
    before, after = _side(old, "old", "completion_id", keys), _side(new, "new", "completion_id", keys)
    matched, before, after = _matched(before, after, keys, keys, "score")
    change = _told(Change.UNCHANGED)
    for value, name in (
        ("weight", Change.WEIGHT_MOVED),
        ("score", Change.SCORE_MOVED),
        ("label", Change.LABEL_FLIPPED),
    ):
        moved = pl.col(f"old_{value}").ne_missing(pl.col(f"new_{value}"))
        change = pl.when(moved).then(_told(name)).otherwise(change)
    return _lines([matched.with_columns(change.alias("change"))], before, after, SUBSET_VALUES)


def split_moves(rows: pl.DataFrame) -> pl.DataFrame:
    """The matches whose two rows stand in different splits, as lines of their own."""
    return rows.filter(pl.col("old_split") != pl.col("new_split")).with_columns(_told(Change.SPLIT_MOVED))


def recipe_changes(old: Json, new: Json) -> list[RecipeChange]:
    """The values that differ between two resolved recipes, sorted by their path."""
    before, after = dict(_values(old, "")), dict(_values(new, ""))
    changes = [RecipeChange(p, before.get(p), after.get(p)) for p in sorted({*before, *after})]
    return [c for c in changes if canonical_json(c.old) != canonical_json(c.new)]


def _side(rows: pl.DataFrame, side: str, row_id: str, keys: Sequence[str]) -> pl.DataFrame:
    """The rows with prefixed names; ids to match by as integers, which sort and join several times as fast."""
    numbers = [pl.col(key).bin.reinterpret(dtype=pl.UInt128) for key in keys]
    rows = rows.with_columns(*numbers, prompt=pl.col("prompt_id"), id=pl.col(row_id))
    return rows.rename(lambda column: f"{side}_{column}")


def _matched(
    old: pl.DataFrame, new: pl.DataFrame, old_keys: Sequence[str], new_keys: Sequence[str], last: str
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The nth old row with the nth new row of equal keys; then the old and the new rows that found no other."""
    old, new = _counted(old, "old", old_keys, last), _counted(new, "new", new_keys, last)
    left, right = [f"old_{k}" for k in (*old_keys, "nth")], [f"new_{k}" for k in (*new_keys, "nth")]
    both = old.join(new, left_on=left, right_on=right, how="inner", coalesce=False)
    old_rest = old.join(new, left_on=left, right_on=right, how="anti")
    return both, old_rest, new.join(old, left_on=right, right_on=left, how="anti")


def _counted(rows: pl.DataFrame, side: str, keys: Sequence[str], last: str) -> pl.DataFrame:
    """The rows with their place among those of equal keys, in the order of ids, then of `last`: `<side>_nth`."""
    names = [f"{side}_{key}" for key in keys]
    rows = rows.sort(*names, f"{side}_id", f"{side}_{last}")
    begins = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in names)
    place = pl.int_range(pl.len())
    return rows.with_columns((place - pl.when(begins).then(place).forward_fill()).alias(f"{side}_nth"))


def _lines(
    found: Sequence[pl.DataFrame], dropped: pl.DataFrame, added: pl.DataFrame, values: Sequence[str]
) -> pl.DataFrame:
    left = [dropped.with_columns(_told(Change.DROPPED)), added.with_columns(_told(Change.ADDED))]
    prompt_id = pl.coalesce("old_prompt", "new_prompt").alias("prompt_id")
    columns = [f"{side}_{value}" for value in values for side in ("old", "new")]
    return pl.concat([*found, *left], how="diagonal").select("change", prompt_id, "old_id", "new_id", *columns)


def _told(change: Change) -> pl.Expr:
    return pl.lit(change.value, CHANGE).alias("change")


def _counts(lines: pl.DataFrame, changes: Sequence[Change]) -> dict[Change, int]:
    counted = {Change(name): count for name, count in lines["change"].value_counts().iter_rows()}
    return {change: counted.get(change, 0) for change in changes}


def _values(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every value with its path. A list of plain values is one value: `stop` does not change item by item."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _values(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _values(item, f"{path}[{index}]")
    else:
        yield path, value
