"""What holds for every strategy on any data: the accounts add up, and a row is decided by its content alone."""

from math import comb
from random import Random

import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st

from prefkit.selection.config import (
    AllPairs,
    BestVsRandom,
    BestVsSecond,
    BestVsWorst,
    CorrectVsIncorrect,
    GradedComparisons,
    PairBase,
    RewardWeights,
    SelectConfig,
    Threshold,
    TopKOverall,
    TopKPerPrompt,
)
from prefkit.selection.outcomes import PromptOutcome, RowOutcome, Selection
from prefkit.selection.strategies import select
from tests.selection.builders import SCHEMA

BOUNDS: list[dict[str, float | int | None]] = [
    {},
    {"min_score_margin": 0.5},
    {"max_score_margin": 1.0, "per_prompt": 2},
    {"max_length_ratio": 2.0, "per_prompt": None, "seed": 3},
    {"per_source": 2, "per_prompt": 3},
]
PAIR_CONFIGS: list[PairBase] = [
    kind.model_validate({"kind": name} | bounds)
    for kind, name in [
        (BestVsWorst, "best_vs_worst"),
        (BestVsRandom, "best_vs_random"),
        (BestVsSecond, "best_vs_second"),
        (AllPairs, "all_pairs"),
        (CorrectVsIncorrect, "correct_vs_incorrect"),
        (GradedComparisons, "comparisons"),
    ]
    for bounds in BOUNDS
]
SUBSET_CONFIGS: list[SelectConfig] = [
    TopKPerPrompt(kind="top_k_per_prompt", k=2, min_score=1.0),
    TopKPerPrompt(kind="top_k_per_prompt", per_source=2),
    TopKOverall(kind="top_k_overall", k=4),
    TopKOverall(kind="top_k_overall", k=4, min_score=1.0, per_source=1),
    Threshold(kind="threshold", desirable_at=2.0, undesirable_at=0.5),
    Threshold(kind="threshold", desirable_at=1.0, per_source=3),
    RewardWeights(kind="reward_weights", temperature=0.7, seed=5),
]
CONFIGS: list[SelectConfig] = [*PAIR_CONFIGS, *SUBSET_CONFIGS]  # pyright: ignore[reportAssignmentType]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Candidates, comparisons between some of them, and the number of prompts."""
    sizes = draw(st.lists(st.integers(0, 6), max_size=6))
    rows = sum(sizes)
    keys = draw(st.lists(st.integers(0, 2**64 - 1), min_size=rows, max_size=rows, unique=True))
    scores = draw(st.lists(st.sampled_from([None, 0.0, 0.3, 1.0, 1.5, 2.0]), min_size=rows, max_size=rows))
    lengths = draw(st.lists(st.integers(0, 30), min_size=rows, max_size=rows))
    sources = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=len(sizes), max_size=len(sizes)))
    prompts = [prompt for prompt, size in enumerate(sizes) for _ in range(size)]
    columns = [prompts, range(rows), keys, scores, lengths, [sources[prompt] for prompt in prompts]]
    frame = pl.DataFrame(dict(zip(SCHEMA, columns, strict=True)), SCHEMA)
    return frame, draw(comparisons(frame)), len(sizes)


@st.composite
def comparisons(draw: st.DrawFn, frame: pl.DataFrame) -> pl.DataFrame:
    a = frame.select("prompt", a="candidate")
    every = a.join(frame.select("prompt", b="candidate"), on="prompt").filter(pl.col("a") < pl.col("b")).sort("a", "b")
    rows = draw(st.lists(st.integers(0, max(0, every.height - 1)), max_size=8)) if every.height else []
    values = st.sampled_from([None, 0.0, 0.1, 0.5, 0.75, 1.0])
    preference = draw(st.lists(values, min_size=len(rows), max_size=len(rows)))
    return every[rows].with_columns(preference=pl.Series(preference, dtype=pl.Float64))


def by_key(selection: Selection, frame: pl.DataFrame) -> set[tuple[object, ...]]:
    """The selected rows with candidates named by key, so that numbering does not show."""
    keys = dict(frame.select("candidate", "key").iter_rows())
    rows = selection.selected
    if "chosen" in rows.columns:
        return {(keys[r["chosen"]], keys[r["rejected"]], r["score_margin"]) for r in rows.iter_rows(named=True)}
    return {(keys[r["candidate"]], r["score"], r["label"], r["weight"]) for r in rows.iter_rows(named=True)}


@given(world=worlds(), config=st.sampled_from(CONFIGS))
def test_every_prompt_has_one_outcome_and_is_selected_with_its_rows(
    world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig
) -> None:
    frame, compared, prompts = world
    selection = select(frame, config, prompts=prompts, comparisons=compared)
    assert selection.prompts["prompt"].to_list() == list(range(prompts))
    assert selection.prompts["outcome"].null_count() == 0
    selected = selection.prompts.filter(pl.col("outcome") == PromptOutcome.SELECTED)["prompt"]
    assert set(selected) == set(selection.selected["prompt"])


@given(world=worlds(), config=st.sampled_from(CONFIGS))
def test_every_planned_row_has_one_outcome(world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig) -> None:
    frame, compared, prompts = world
    rows = select(frame, config, prompts=prompts, comparisons=compared).rows
    assert rows["outcome"].null_count() == 0
    assert rows["prompt"].is_sorted()
    scored = [group["score"].drop_nulls().to_list() for _, group in frame.group_by("prompt")]
    match config:
        case GradedComparisons():
            assert rows.height == compared.select("a", "b").unique().height
        case AllPairs():
            assert rows.height == sum(comb(len(scores), 2) for scores in scored)
        case CorrectVsIncorrect():
            correct = [sum(score >= config.correct_at for score in scores) for scores in scored]
            assert rows.height == sum(c * (len(s) - c) for c, s in zip(correct, scored, strict=True))
        case PairBase():
            assert rows.height == sum(len(scores) >= 2 for scores in scored)
        case _:
            assert rows["candidate"].to_list() == frame["candidate"].to_list()


@given(world=worlds(), config=st.sampled_from(PAIR_CONFIGS))
def test_pairs_keep_their_prompt_their_direction_and_every_bound(
    world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig
) -> None:
    assert isinstance(config, PairBase)
    frame, compared, prompts = world
    selection = select(frame, config, prompts=prompts, comparisons=compared)  # pyright: ignore[reportArgumentType]
    of = {row["candidate"]: row for row in frame.iter_rows(named=True)}
    for row in selection.rows.iter_rows(named=True):
        chosen, rejected = of[row["chosen"]], of[row["rejected"]]
        assert chosen["candidate"] != rejected["candidate"]
        assert chosen["prompt"] == rejected["prompt"] == row["prompt"]
    for row in selection.selected.iter_rows(named=True):
        chosen, rejected = of[row["chosen"]], of[row["rejected"]]
        assert row["score_margin"] > 0
        assert config.min_score_margin <= row["score_margin"] <= (config.max_score_margin or 9)
        if not isinstance(config, GradedComparisons):
            assert row["score_margin"] == round(chosen["score"] - rejected["score"], 9)
        short, long = sorted([chosen["length"], rejected["length"]])
        assert config.max_length_ratio is None or long <= config.max_length_ratio * short


@given(world=worlds(), config=st.sampled_from(CONFIGS))
def test_caps_hold_and_leave_nothing_out_below_them(
    world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig
) -> None:
    frame, compared, prompts = world
    selection = select(frame, config, prompts=prompts, comparisons=compared)
    outcome = pl.col("outcome")
    if isinstance(config, PairBase) and config.per_prompt is not None:
        passed = outcome.is_in([RowOutcome.SELECTED, RowOutcome.OVER_SOURCE_CAP]).sum()
        counts = selection.rows.group_by("prompt").agg(passed, refused=(outcome == RowOutcome.NOT_SELECTED).sum())
        assert all(kept <= config.per_prompt for kept in counts["outcome"])
        assert all(kept == config.per_prompt for kept in counts.filter(pl.col("refused") > 0)["outcome"])
    if config.per_source is not None:
        sources = frame.select("prompt", "source").unique()
        rows = selection.rows.join(sources, on="prompt", how="left")
        counts = rows.group_by("source").agg(
            (outcome == RowOutcome.SELECTED).sum(), over=(outcome == RowOutcome.OVER_SOURCE_CAP).sum()
        )
        assert all(kept <= config.per_source for kept in counts["outcome"])
        assert all(kept == config.per_source for kept in counts.filter(pl.col("over") > 0)["outcome"])


@given(world=worlds(), config=st.sampled_from(CONFIGS), random=st.randoms(use_true_random=False))
def test_renumbered_prompts_and_completions_give_the_same_rows(
    world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig, random: Random
) -> None:
    frame, _, prompts = world
    assume(not isinstance(config, GradedComparisons))
    numbers, order = list(range(prompts)), list(range(frame.height))
    random.shuffle(numbers)
    random.shuffle(order)
    moved = frame[order].with_columns(
        pl.col("prompt").replace_strict(list(range(prompts)), numbers, return_dtype=pl.UInt32)
    )
    moved = moved.sort("prompt", maintain_order=True).with_columns(
        candidate=5 + 3 * pl.int_range(pl.len(), dtype=pl.UInt32)
    )
    assert by_key(select(frame, config, prompts=prompts), frame) == by_key(
        select(moved, config, prompts=prompts), moved
    )


@given(world=worlds(), config=st.sampled_from(CONFIGS), kept=st.sets(st.integers(0, 5)))
def test_fewer_prompts_give_the_same_rows_for_the_rest(
    world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig, kept: set[int]
) -> None:
    # Only a cap over all prompts may look at others.
    assume(config.per_source is None and not isinstance(config, TopKOverall))
    frame, compared, prompts = world
    whole = select(frame, config, prompts=prompts, comparisons=compared)
    stays = pl.col("prompt").is_in(list(kept))
    part = select(frame.filter(stays), config, prompts=prompts, comparisons=compared.filter(stays))
    assert part.rows.equals(whole.rows.filter(stays))
    assert part.prompts.filter(stays).equals(whole.prompts.filter(stays))


@given(world=worlds(), config=st.sampled_from(CONFIGS))
def test_outcomes_do_not_depend_on_how_the_frame_is_cut_or_its_sources_are_coded(
    world: tuple[pl.DataFrame, pl.DataFrame, int], config: SelectConfig
) -> None:
    frame, compared, prompts = world
    chunked = pl.concat([frame[:1], frame[1:]], rechunk=False).with_columns(pl.col("source").cast(pl.Enum(["b", "a"])))
    first = select(frame, config, prompts=prompts, comparisons=compared)
    second = select(chunked, config, prompts=prompts, comparisons=compared)
    assert first.rows.equals(second.rows)
    assert first.prompts.equals(second.prompts)
