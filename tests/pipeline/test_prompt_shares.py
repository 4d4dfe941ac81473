"""Blocks that draw for a share of the prompts."""

from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.pipeline.dry_run import dry_run_of
from prefkit.pipeline.prompt_shares import below, in_share, overlap
from prefkit.pipeline.rebuild import rebuild
from prefkit.pipeline.recipe import SplitConfig
from prefkit.pipeline.rows import split_of
from prefkit.pipeline.tracing.trace import row_story
from prefkit.pipeline.tracing.verdicts import Verdict
from tests.pipeline.builders import built, recipe, workspace_in

IDS = pl.Series([blake2b(str(i).encode(), digest_size=16).digest() for i in range(20_000)])
ENDS = st.floats(0, 1, allow_nan=False)


def block(seed: int, *share: float, n: int = 3) -> dict[str, object]:
    return {"backend": "fake", "n": n, "seed": seed} | ({"prompt_share": list(share)} if share else {})


@given(ENDS, ENDS)
def test_shares_that_touch_divide_the_prompts(one: float, other: float) -> None:
    ends = sorted({0.0, one, other, 1.0})
    parts = [in_share(IDS, share) for share in pairwise(ends)]
    assert set(pl.DataFrame({str(i): part for i, part in enumerate(parts)}).sum_horizontal()) == {1}


def test_share_holds_as_many_prompts_as_it_says_and_is_independent_of_the_split() -> None:
    half = in_share(IDS, (0, 0.5))
    assert half.mean() == pytest.approx(0.5, abs=0.015)
    tasks = pl.DataFrame({"prompt_id": IDS, "split": pl.Series([None] * len(IDS), dtype=pl.String)})
    test = split_of(tasks, SplitConfig(test=0.5)) == "test"
    assert (half & test).mean() == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [((0, 0.5), (0.5, 1), False), ((0, 0.5), (0.4, 1), True), ((0.2, 0.3), (0, 1), True), ((0, 0.1), (0.9, 1), False)],
)
def test_shares_overlap_where_a_prompt_can_be_in_both(
    one: tuple[float, float], other: tuple[float, float], both: bool
) -> None:
    assert (overlap(one, other), overlap(other, one)) == (both, both)
    assert (in_share(IDS, one) & in_share(IDS, other)).any() == both


def test_what_of_a_share_is_below() -> None:
    assert (below((0.2, 0.8), 0.5), below((0.2, 0.4), 0.5), below((0.5, 1), 0.5)) == ((0.2, 0.5), (0.2, 0.4), None)


def test_block_draws_for_its_share_alone_and_the_ledger_adds_up(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, 200)
    blocks = [block(1, 0, 0.4), block(2, 0.4, 1, n=5)]
    done = built(workspace, sample=blocks)
    candidates = done.version.ledger[2]
    rows = done.version.frame().select("prompt_id", "chosen_id").collect()
    first = in_share(rows["prompt_id"], (0, 0.4))
    assert 0 < first.sum() < rows.height
    whole = built(workspace, sample=[block(1), block(2, n=5)]).version
    kept = whole.ledger[1].kept
    share = round((5 * kept - done.drawn) / 2)  # prompts of the first block: 3 draws each, the others have 5
    assert (candidates.stage, candidates.planned) == ("sample", 3 * share + 5 * (kept - share))
    assert rebuild(done.version, workspace) == []


def test_share_is_no_part_of_a_draw_and_what_is_drawn_once_stays(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, 100)
    whole = built(workspace, sample=block(1))
    assert built(workspace, sample=block(1, 0.25, 0.75)).drawn == 0
    again = built(workspace, sample=[block(1, 0, 0.5), block(1, 0.5, 1)])
    assert again.drawn == 0
    assert again.version.path("train").read_bytes() == whole.version.path("train").read_bytes()


def test_dry_run_counts_a_share_as_the_build_draws_it(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, 100)
    asked = recipe(sample=[block(1, 0, 0.3), block(2, 0.3, 1)])
    plan = dry_run_of(asked, workspace, tmp_path)
    done = built(workspace, sample=[block(1, 0, 0.3), block(2, 0.3, 1)])
    assert [w.planned for w in plan.draws] == [w.to_do for w in plan.draws]
    assert sum(w.to_do for w in plan.draws) == done.drawn == 300


def test_blocks_that_draw_the_same_for_one_prompt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two blocks that draw the same"):
        built(workspace_in(tmp_path), sample=[block(1, 0, 0.6), block(1, 0.5, 1)])


@pytest.mark.parametrize("share", [[0.5, 0.5], [0.6, 0.2], [-0.1, 1], [0, 1.1]])
def test_share_that_is_none_is_refused(share: list[float]) -> None:
    with pytest.raises(ValueError, match="expected two ascending numbers from 0 to 1"):
        recipe(sample=block(1, *share))


def test_trace_tells_that_a_version_did_not_ask_for_a_draw_outside_its_share(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, 40)
    whole = built(workspace, sample=block(1)).version.frame().collect()
    built(workspace, sample=[block(1, 0, 0.5), block(2, 0.5, 1)])
    for inside in (True, False):
        row = whole.filter(in_share(whole["prompt_id"], (0, 0.5)) == inside).row(0, named=True)
        story = row_story(workspace, row["chosen_id"].hex())
        verdicts = {v.version: v.verdict for v in story.completions[0].versions}
        assert verdicts["small@v1"] == Verdict.SELECTED
        assert (verdicts["small@v2"] == Verdict.NOT_PLANNED) == (not inside)
