"""Pairwise judges that compare against a baseline."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefkit.errors import NotFoundError, RecipeError
from prefkit.pipeline.build import Built
from prefkit.pipeline.doctor.examine import examine
from prefkit.pipeline.dry_run import dry_run_of
from prefkit.pipeline.rebuild import rebuild
from prefkit.store.workspace import Workspace
from prefkit.testing import FakeEndpoint
from tests.pipeline.builders import built, recipe, workspace_in
from tests.pipeline.test_imported_build import PROMPTS, Row, imported
from tests.pipeline.test_judged_build import COMPARE, PAIRWISE, judged, outcomes, sides, with_texts

PROBLEMS = 5


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as server:
        yield server


def against(workspace: Workspace, endpoint: FakeEndpoint, baseline: object, **changes: object) -> Built:
    """Texts of ann, bob and cyd on two prompts, compared with this baseline in both orders."""
    return judged(workspace, endpoint, {**PAIRWISE, "against": baseline, **changes}, **COMPARE)


def test_only_pairs_of_the_baseline_and_another_model_are_compared(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    workspace = with_texts(tmp_path)
    done = against(workspace, endpoint, "bob")
    assert done.compared == len(endpoint.requests) == len(PROMPTS) * 2 * 2
    better = [("ann", "bob"), ("bob", "cyd")]
    assert sides(done.version) == {(f"{a} on {p}", f"{b} on {p}") for a, b in better for p in PROMPTS}
    assert rebuild(done.version, workspace) == []


def test_going_on_to_all_pairs_asks_for_the_others_alone(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    workspace = with_texts(tmp_path)
    versions = [against(workspace, endpoint, baseline) for baseline in ("bob", None, "bob", "ann")]
    assert [done.compared for done in versions] == [8, 4, 0, 0]
    assert [done.version.label for done in versions] == ["judged@v1", "judged@v2", "judged@v3", "judged@v4"]
    assert [outcomes(done.version, "compare")["rated"] for done in versions] == [8, 12, 8, 8]


def test_orders_are_content_of_a_version(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    workspace = with_texts(tmp_path)
    both = against(workspace, endpoint, None)
    one = against(workspace, endpoint, None, orders="ab")
    assert (one.compared, one.version.label) == (0, "judged@v2")
    assert outcomes(both.version, "compare") == {"rated": 12}
    assert outcomes(one.version, "compare") == {"rated": 6}


def test_copy_that_hygiene_kept_stands_for_the_baseline(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    workspace = with_texts(tmp_path)
    said = {"ann": "Yes: quality=0.9", "bob": "No: quality=0.5", "cyd": "No: quality=0.5"}
    texts: list[Row] = [{"id": p, "model": m, "text": text} for p in PROMPTS for m, text in said.items()]
    imported(workspace, texts)
    for baseline in ("bob", "cyd"):
        done = against(workspace, endpoint, baseline)
        assert outcomes(done.version, "compare") == {"rated": len(PROMPTS) * 2}
        assert done.version.splits == {"train": len(PROMPTS)}


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        ("bobb", r"^judge 'judge' compares against the imported model 'bobb', .* did you mean 'bob'\?$"),
        ("", r"^judge 'judge' compares against the imported model '', .* known: ann, bob, cyd$"),
        (0, r"^score\[0\]\.against is 0 and the recipe has 0 `sample` blocks, expected a lower number: [^\n]+$"),
    ],
)
def test_baseline_without_completions_is_told_in_one_line_before_anything_is_asked(
    tmp_path: Path, endpoint: FakeEndpoint, baseline: object, told: str
) -> None:
    workspace = with_texts(tmp_path)
    with pytest.raises((NotFoundError, RecipeError), match=told):
        against(workspace, endpoint, baseline)
    assert endpoint.requests == []


def sampled(endpoint: FakeEndpoint, baseline: int | None, n: tuple[int, int]) -> dict[str, object]:
    """Two sample blocks and a judge that compares with one of them."""
    judge = {"kind": "judge", "endpoint": endpoint.url, "model": "judge", "revision": "r1", **PAIRWISE}
    return {
        "sample": [{"backend": "fake", "n": count, "seed": seed} for seed, count in enumerate(n)],
        "score": [judge | {"against": baseline}],
        "hygiene": {"duplicates": "off"},
        **COMPARE,
    }


@pytest.mark.parametrize(("baseline", "first", "then"), [(0, 2, 6), (1, 2, 6), (None, 3, 10)])
def test_sampled_block_is_a_baseline_and_plans_agree_with_what_a_build_does(
    tmp_path: Path, endpoint: FakeEndpoint, baseline: int | None, first: int, then: int
) -> None:
    workspace = workspace_in(tmp_path, PROBLEMS)
    done = built(workspace, **sampled(endpoint, baseline, (1, 2)))
    assert done.compared == PROBLEMS * 2 * first
    more = sampled(endpoint, baseline, (2, 3))
    plan = dry_run_of(recipe(**more), workspace, tmp_path)
    seen = examine(recipe(**more), tmp_path, workspace)
    (work,), (forecast,) = plan.comparisons, plan.forecasts
    assert (work.planned, work.have) == (PROBLEMS * 2 * then, PROBLEMS * 2 * first)
    assert seen.plan is not None
    assert seen.plan.forecasts == plan.forecasts
    billed = endpoint.billed.input_tokens
    done = built(workspace, **more)
    assert done.compared == work.to_do == forecast.calls == PROBLEMS * 2 * (then - first)
    assert forecast.input_tokens == pytest.approx(endpoint.billed.input_tokens - billed, rel=0.4)


def test_block_whose_draws_all_fail_hygiene_leaves_nothing_to_compare(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    workspace = workspace_in(tmp_path, PROBLEMS)
    blocks = sampled(endpoint, 0, (2, 2))
    cut = [{"backend": "fake", "n": 2, "max_new_tokens": 1}, {"backend": "fake", "n": 2, "seed": 1}]
    done = built(workspace, **(blocks | {"sample": cut}))
    assert (done.compared, done.version.splits) == (0, {"train": 0})
    assert outcomes(done.version, "select") == {"no_comparisons": PROBLEMS}


def test_baseline_of_a_later_block_than_there_are_is_told_before_anything_is_drawn(
    tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    workspace = workspace_in(tmp_path, PROBLEMS)
    with pytest.raises(RecipeError, match=r"^score\[0\]\.against is 2 and the recipe has 2 "):
        built(workspace, **sampled(endpoint, 2, (1, 1)))
