"""The rows of a version in the formats that TRL trains on, each a function from frame to frame.

The columns TRL reads come first, ours follow: TRL passes over columns it does not know. Ids become hexadecimal text. No
row is lost on the way: a format that cannot carry a row refuses the export and says how many rows it cannot carry.

Two columns TRL does act on when they are there are kept out of the formats where nobody asked for them: `margin`, which
its RewardTrainer subtracts from the reward gap, is in `trl-reward` alone, and `label` only where rows are unpaired.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import polars as pl
import polars.selectors as cs

from prefkit.errors import NotFoundError, RecipeError, suggestion
from prefkit.export.source import ExportSource, Kind

Format: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]

_SHARED = ("pair_id", "prompt_id", "source", "answer")
_OF_A_SIDE = {
    "completion": "{side}",
    "completion_id": "{side}_id",
    "completion_token_ids": "{side}_token_ids",
    "behavior_logps": "behavior_{side}_logps",
    "scores": "{side}_scores",
    "score": "{side}_score",
    "policy_id": "{side}_policy_id",
    "policy_version": "{side}_policy_version",
    "ref_logps": "ref_{side}_logps",  # of versions that store them
}


def formatted(source: ExportSource, name: str) -> dict[str, pl.DataFrame]:
    """The splits of a version in a named format; splits without rows are left out.

    Raises RecipeError for a format that does not exist or cannot carry the version, NotFoundError for one without rows.
    """
    if name not in FORMATS:
        raise RecipeError(f"format {name!r} does not exist, expected one of {', '.join(FORMATS)}{_near(name)}")
    if source.kind not in FORMATS[name]:
        able = ", ".join(n for n, kinds in FORMATS.items() if source.kind in kinds)
        raise RecipeError(
            f"{source.label} holds a {source.kind}, which format {name!r} cannot carry: use one of {able}"
        )
    convert = FORMATS[name][source.kind]
    splits = {split: convert(frame) for split, frame in source.splits.items()}
    filled = {split: frame for split, frame in splits.items() if len(frame)}
    if not filled:
        raise NotFoundError(f"{source.label} has no rows in format {name!r}, expected at least one")
    return filled


def _near(name: str) -> str:
    near = suggestion(name, list(FORMATS))
    return near if "did you mean" in near else ""


def readable_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its binary columns as hexadecimal text."""
    return frame.with_columns(cs.binary().bin.encode("hex"))


def preference(pairs: pl.DataFrame) -> pl.DataFrame:
    """TRL's conversational preference with explicit prompt."""
    return _leading(readable_ids(pairs), "prompt", "chosen", "rejected")


def plain_preference(pairs: pl.DataFrame) -> pl.DataFrame:
    """TRL's standard preference: strings. Prompts must be one user message, completions one assistant message."""
    return _plain(preference(pairs), ("chosen", "rejected"))


def reward_preference(pairs: pl.DataFrame) -> pl.DataFrame:
    """Conversational preference with `margin`, which TRL's RewardTrainer asks the reward gap to exceed."""
    return _leading(preference(pairs.with_columns(margin="score_margin")), "prompt", "chosen", "rejected", "margin")


def unpaired_from_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """TRL's unpaired preference: of each pair first the chosen completion, labelled true, then the rejected one."""
    sides = [
        _side(pairs, side).with_columns(label=pl.lit(side == "chosen")).with_row_index("pair")
        for side in ("chosen", "rejected")
    ]
    rows = pl.concat(sides).sort("pair", maintain_order=True).drop("pair")
    return _leading(readable_ids(rows), "prompt", "completion", "label")


def unpaired_from_labels(subset: pl.DataFrame) -> pl.DataFrame:
    """TRL's unpaired preference from a version whose rows are labelled."""
    unlabelled = subset["label"].null_count()
    if unlabelled:
        raise RecipeError(
            f"{unlabelled} of {len(subset)} rows have no label, expected one on each: "
            "select by threshold, or export as 'sft'"
        )
    return _leading(readable_ids(subset), "prompt", "completion", "label")


def plain_unpaired(subset: pl.DataFrame) -> pl.DataFrame:
    """TRL's standard unpaired preference: strings."""
    return _plain(unpaired_from_labels(subset), ("completion",))


def prompts_only(rows: pl.DataFrame) -> pl.DataFrame:
    """TRL's prompt-only format with `answer` for reward functions: each task once."""
    distinct = rows.select("prompt", "prompt_id", "source", "answer").unique(
        ["prompt_id", "source", "answer"], keep="first", maintain_order=True
    )
    return readable_ids(distinct)


def sft_from_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """TRL's prompt-completion format: each chosen completion once."""
    chosen = _side(pairs, "chosen").drop("pair_id").unique("completion_id", keep="first", maintain_order=True)
    return _leading(readable_ids(chosen), "prompt", "completion")


def sft_from_subset(subset: pl.DataFrame) -> pl.DataFrame:
    """TRL's prompt-completion format: every row but those labelled undesirable."""
    return completions(subset.filter(pl.col("label").fill_null(True)).drop("label"))


def completions(subset: pl.DataFrame) -> pl.DataFrame:
    """The rows of a subset as they are."""
    return _leading(readable_ids(subset), "prompt", "completion")


FORMATS: Mapping[str, Mapping[Kind, Format]] = {
    "trl": {"pairs": preference, "subset": unpaired_from_labels},
    "trl-plain": {"pairs": plain_preference, "subset": plain_unpaired},
    "trl-reward": {"pairs": reward_preference},
    "unpaired": {"pairs": unpaired_from_pairs, "subset": unpaired_from_labels},
    "prompt-only": {"pairs": prompts_only, "subset": prompts_only},
    "sft": {"pairs": sft_from_pairs, "subset": sft_from_subset},
}


def _leading(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return frame.select(*columns, pl.exclude(columns))


def _side(pairs: pl.DataFrame, side: str) -> pl.DataFrame:
    """One completion of every pair in the columns of a subset."""
    columns = {ours: theirs.format(side=side) for ours, theirs in _OF_A_SIDE.items()}
    columns = {ours: theirs for ours, theirs in columns.items() if theirs in pairs.columns}
    return pairs.select("prompt", **{ours: pl.col(theirs) for ours, theirs in columns.items()}).hstack(
        pairs.select(_SHARED)
    )


def _plain(frame: pl.DataFrame, completion_columns: tuple[str, ...]) -> pl.DataFrame:
    roles = {"prompt": "user"} | dict.fromkeys(completion_columns, "assistant")
    first = {column: pl.col(column).list.first().struct for column in roles}
    is_plain = pl.all_horizontal(
        (pl.col(column).list.len() == 1) & (first[column].field("role") == role) for column, role in roles.items()
    )
    not_plain = int(frame.select((~is_plain.fill_null(False)).sum()).item())
    if not_plain:
        raise RecipeError(
            f"{not_plain} of {len(frame)} rows are not_plain (several turns or a system message), "
            "expected one user message and one completion: export as 'trl'"
        )
    return frame.with_columns(first[column].field("content").alias(column) for column in roles)
