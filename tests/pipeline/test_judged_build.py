"""Judges behind a real HTTP endpoint, as a build meets them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from prefkit.errors import RecipeError
from prefkit.pipeline.build import Built, build
from prefkit.pipeline.dry_run import dry_run_of
from prefkit.pipeline.recipe import Recipe
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace
from prefkit.testing import FakeEndpoint, Fault, Script, SimulatedJudge
from tests.pipeline.test_imported_build import PROMPTS, imported, pairs

QUALITY = {"ann": 0.9, "bob": 0.5, "cyd": 0.1}


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return with_texts(tmp_path)


def with_texts(folder: Path) -> Workspace:
    """A new workspace with three texts for each of two prompts."""
    folder.mkdir(exist_ok=True)
    workspace = Workspace.create(folder)
    imported(
        workspace,
        [
            {"id": p, "model": m, "text": f"{m} on {p}: quality={quality}"}
            for p in PROMPTS
            for m, quality in QUALITY.items()
        ],
    )
    return workspace


def judged(workspace: Workspace, endpoint: FakeEndpoint, judge: Mapping[str, object], **blocks: object) -> Built:
    base: dict[str, object] = {
        "name": "judged",
        "prompts": {"imported": "words"},
        "score": [{"kind": "judge", "endpoint": endpoint.url, "model": "judge", "revision": "r1", **judge}],
        "select": {"kind": "best_vs_worst"},
    }
    return build(Recipe.model_validate(base | blocks), workspace, workspace.root.parent)


ASPECTS: dict[str, object] = {"mode": "aspects", "aspects": ["helpfulness", "honesty"]}
PAIRWISE: dict[str, object] = {"mode": "pairwise"}
COMPARE: dict[str, object] = {"select": {"kind": "comparisons", "per_prompt": None}}


def sides(version: Version) -> set[tuple[str, str]]:
    rows = version.frame().select("chosen", "rejected").collect().rows()
    return {(chosen[0]["content"][:8], rejected[0]["content"][:8]) for chosen, rejected in rows}


def outcomes(version: Version, stage: str) -> Mapping[str, int]:
    return next(a.outcomes for a in version.ledger if a.stage == stage)


def test_aspects_are_scored_once_and_another_aspect_costs_only_its_calls(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    first = judged(workspace, endpoint, ASPECTS)
    assert first.labelled == len(endpoint.requests) == 6 * 2
    assert {chosen for chosen, _, _ in pairs(first.version).values()} == {"ann"}
    assert judged(workspace, endpoint, ASPECTS).version.label == "judged@v1"
    assert len(endpoint.requests) == 12
    more = judged(workspace, endpoint, {**ASPECTS, "aspects": ["helpfulness", "honesty", "truthfulness"]})
    assert (more.labelled, len(endpoint.requests)) == (6, 18)


def test_spent_tokens_and_money_are_what_the_endpoint_billed(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    price = {"input": 2.5, "output": 10.0}
    done = judged(workspace, endpoint, {**ASPECTS, "price": price}, budget={"usd": 1.0})
    billed = endpoint.billed
    assert done.spent.tokens == billed.input_tokens + billed.output_tokens
    assert done.spent.usd == pytest.approx(billed.usd)


def test_pairs_are_compared_in_both_orders_and_obey_an_honest_judge(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    done = judged(workspace, endpoint, PAIRWISE, **COMPARE)
    assert done.compared == len(endpoint.requests) == 2 * 3 * 2
    better = [("ann", "bob"), ("ann", "cyd"), ("bob", "cyd")]
    assert sides(done.version) == {(f"{a} on {p}", f"{b} on {p}") for a, b in better for p in PROMPTS}
    (report,) = done.version.content["judges"]
    assert report["measures"]["position_bias"]["value"] == 0
    assert report["measures"]["consistency"] == {
        "value": 1.0,
        "low": pytest.approx(0.61, abs=0.01),
        "high": 1.0,
        "pairs": 6,
    }


def test_judge_that_takes_the_first_makes_no_pair_and_its_bias_is_told(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    endpoint.script = Script(judge=SimulatedJudge(bias=1.0))
    done = judged(workspace, endpoint, PAIRWISE, **COMPARE)
    assert sides(done.version) == set()
    assert outcomes(done.version, "select rows") == {"tie": 6}
    (report,) = done.version.content["judges"]
    assert report["measures"]["position_bias"]["value"] == 1.0
    assert report["measures"]["consistency"]["value"] == 0.0


def test_human_and_judge_compare_side_by_side(workspace: Workspace, endpoint: FakeEndpoint, tmp_path: Path) -> None:
    from tests.pipeline.test_imported_build import compared

    texts = [
        {"id": p, "model": m, "text": f"{m} on {p}: quality={quality}"}
        for p in PROMPTS
        for m, quality in QUALITY.items()
    ]
    imported(workspace, texts, comparisons=[compared("p", "bob", "ann", 1.0)])
    judge = {"kind": "judge", "mode": "pairwise", "endpoint": endpoint.url, "model": "judge", "revision": "r1"}
    score = [judge, {"kind": "imported", "scorer": "eve", "name": "human"}]
    weights = {"kind": "weights", "weights": {"overall": 1, "human": 3}}
    done = judged(workspace, endpoint, {}, score=score, aggregate=weights, **COMPARE)
    assert ("bob on p", "ann on p") in sides(done.version)
    assert ("ann on q", "bob on q") in sides(done.version)


def test_faults_end_in_outcomes_and_the_next_build_makes_up_for_passing_ones(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    endpoint.script = Script(faults={Fault.MALFORMED: 0.3, Fault.REFUSAL: 0.2, Fault.CUT_OFF: 0.2})
    done = judged(workspace, endpoint, ASPECTS)
    found = outcomes(done.version, "score")
    assert sum(found.values()) == 12
    assert {"unparsable", "refused", "cut_off"} >= set(found) - {"scored"} != set()
    endpoint.script = Script()
    again = judged(workspace, endpoint, ASPECTS)
    assert again.labelled == 0, "final failures are not asked again"


def test_budget_stops_before_it_is_exceeded_and_a_larger_one_goes_on(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    small = {**ASPECTS, "max_tokens": 16, "concurrency": 2}
    first = judged(workspace, endpoint, small, budget={"tokens": 3_000})
    found = outcomes(first.version, "score")
    assert found["over_budget"] + found["scored"] == 12
    assert 0 < endpoint.billed.input_tokens + endpoint.billed.output_tokens <= 3_000
    assert first.version.content["to_retry"] == found["over_budget"]
    asked = len(endpoint.requests)
    second = judged(workspace, endpoint, small, budget={"tokens": 100_000})
    assert outcomes(second.version, "score") == {"scored": 12}
    assert len(endpoint.requests) - asked == found["over_budget"]


def test_key_is_read_from_the_environment_and_stored_nowhere(
    workspace: Workspace, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-secret-1234567890"
    monkeypatch.setenv("JUDGE_KEY", secret)
    endpoint.script = replace(endpoint.script, key=secret)
    judged(workspace, endpoint, {**ASPECTS, "api_key_env": "JUDGE_KEY"})
    stored = b"".join(path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("judge", "blocks", "told"),
    [
        (ASPECTS, {"budget": {"usd": 1.0}}, "has no price"),
        (PAIRWISE, {}, "expected 'comparisons'"),
        ({**ASPECTS, "aspects": ["helpfulnes"]}, {}, "did you mean 'helpfulness'"),
    ],
)
def test_judge_that_cannot_work_is_told_in_one_line(
    workspace: Workspace, endpoint: FakeEndpoint, judge: Mapping[str, object], blocks: dict[str, object], told: str
) -> None:
    with pytest.raises((RecipeError, ValueError), match=told):
        judged(workspace, endpoint, judge, **blocks)
    assert endpoint.requests == []


def test_dry_run_forecasts_calls_and_money_above_what_is_then_billed(
    workspace: Workspace, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    judge = {
        "kind": "judge", "mode": "pairwise", "endpoint": endpoint.url, "model": "judge", "revision": "r1",
        "price": {"input": 2.5, "output": 10.0}, "max_tokens": 64,
    }  # fmt: skip
    blocks = {"name": "judged", "prompts": {"imported": "words"}, "score": [judge], **COMPARE}
    recipe = Recipe.model_validate(blocks)
    plan = dry_run_of(recipe, workspace, tmp_path)
    (forecast,), (work,) = plan.forecasts, plan.comparisons
    assert (forecast.calls, work.to_do, endpoint.requests) == (12, 12, [])
    done = build(recipe, workspace, tmp_path)
    assert forecast.usd is not None
    assert endpoint.billed.usd < forecast.usd
    assert forecast.input_tokens == pytest.approx(endpoint.billed.input_tokens, rel=0.4)
    assert done.compared == 12
    assert dry_run_of(recipe, workspace, tmp_path).forecasts == ()


# ------------------------------------------------------------------------------------------------------------- batches


BATCH: dict[str, object] = {"transport": "batch", "poll_s": 0.01}


def submitted(endpoint: FakeEndpoint) -> list[int]:
    """How many requests each batch holds."""
    return [len(endpoint.batches.files[batch.input].splitlines()) for batch in endpoint.batches.submitted]


@pytest.mark.parametrize("judge", [ASPECTS, PAIRWISE], ids=["aspects", "pairwise"])
def test_batch_transport_makes_the_version_of_live_calls(
    tmp_path: Path, endpoint: FakeEndpoint, judge: Mapping[str, object]
) -> None:
    select = COMPARE if judge is PAIRWISE else {}
    live = judged(with_texts(tmp_path / "live"), endpoint, judge, **select)
    batch = judged(with_texts(tmp_path / "batch"), endpoint, {**judge, **BATCH}, **select)
    assert submitted(endpoint) == [12]
    assert batch.version.manifest["content_hash"] == live.version.manifest["content_hash"]


def test_batch_of_a_judge_without_a_price_is_refused_before_it_is_submitted(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    with pytest.raises(RecipeError, match=r"^budget\.usd is set and judge 'judge' has no price"):
        judged(workspace, endpoint, {**ASPECTS, **BATCH}, budget={"usd": 1.0})
    assert endpoint.requests == []
