"""A policy against a baseline on held-out prompts: by hand, where every completion and log-prob is written down."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import exp
from pathlib import Path

import polars as pl
import pytest

from prefkit.errors import NotFoundError, RecipeError, SourceError
from prefkit.pipeline.evaluation.evaluating import EVALUATIONS, EvaluationAsked, evaluate
from prefkit.pipeline.evaluation.report import Evaluation
from prefkit.pipeline.evaluation.statistics import Compared, Divergence
from prefkit.pipeline.progress import Silent
from prefkit.pipeline.recipe import Recipe
from prefkit.shift.bootstrap import Estimate
from prefkit.sources.conversations import plain_prompt_ids
from prefkit.store.runs import RunOutcome, RunRecord, Runs
from prefkit.store.workspace import Workspace
from prefkit.testing import FakeEndpoint, Script, SimulatedJudge
from tests.pipeline.builders import write_problems
from tests.pipeline.scripted import Said, failed, forbid_models, said, scripted_policy, use_scripts

SUM, PRODUCT, SEEN = "What is 1 + 2?", "What is 1 * 5?", "What is 2 + 2?"
PROBLEMS = [
    {"prompt": SUM, "answer": "3", "split": "test"},
    {"prompt": PRODUCT, "answer": "5", "split": "test"},
    {"prompt": SEEN, "answer": "4", "split": "train"},
]
POLICY: Mapping[str, Sequence[Said]] = {
    SUM: [said("3", [2, 4], -0.1), said("3", [2], -0.3)],
    PRODUCT: [said("5", [8, 1, 1], -0.2), said("1", [3], -0.1, finish="length")],
}
"""Log-probs under the start are -0.6, -0.2, -1.0 and -0.3; under itself -0.2, -0.3, -0.6 and -0.1."""
START: Mapping[str, Sequence[Said]] = {
    SUM: [said("3", [5]), said("4", [5])],
    PRODUCT: [said("5", [5]), said("9", [5, 5])],
}
EXACT = {"kind": "verifier", "name": "exact"}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    use_scripts(monkeypatch)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as server:
        yield server


def workspace_in(
    folder: Path, policy: Mapping[str, Sequence[Said]] = POLICY, start: Mapping[str, Sequence[Said]] = START
) -> Workspace:
    write_problems(folder, PROBLEMS)
    scripted_policy(folder / "policy", policy)
    scripted_policy(folder / "start", start)
    return Workspace.create(folder)


def recipe(**blocks: object) -> Recipe:
    base: dict[str, object] = {
        "name": "small",
        "prompts": {"path": "problems.jsonl"},
        "policy": {"model": "start"},
        "sample": {"backend": "transformers", "n": 8},
        "score": [EXACT],
        "select": {"kind": "correct_vs_incorrect"},
    }
    return Recipe.model_validate(base | blocks)


def evaluated(
    workspace: Workspace,
    policy: str = "policy",
    against: str = "start",
    limit: int | None = None,
    asked: Recipe | None = None,
) -> Evaluation:
    """The scripted policy against the start, two completions of each a prompt."""
    folder = workspace.root.parent
    word = str(folder / policy) if policy == "policy" else policy
    return evaluate(EvaluationAsked(asked or recipe(), folder, word, against, 2, limit), workspace, Silent())


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def values(means: Compared) -> tuple[float, float, float]:
    """Of the policy, the baseline, and their difference."""
    return known(means.policy).value, known(means.baseline).value, known(means.difference).value


def bounds(estimate: Estimate | None) -> tuple[float, float]:
    return known(estimate).low, known(estimate).high


def outcomes(found: Evaluation) -> tuple[int, int, int, int]:
    """Matches won, tied, lost and undecided."""
    wins = found.overall.wins
    assert wins is not None
    return wins.wins, wins.ties, wins.losses, wins.unknown


def win_rate(found: Evaluation) -> Estimate:
    assert found.overall.wins is not None
    return found.overall.wins.rate


def divergence(found: Evaluation, side: str = "policy") -> Divergence:
    moved = found.overall.divergence[side]
    assert moved is not None
    return moved


def work(found: Evaluation) -> tuple[int, int, int, int]:
    """What was drawn, labelled, compared and scored by the start."""
    made = found.computed
    return made.drawn, made.labelled, made.compared, made.logps


def run_of(
    workspace: Workspace, name: str = "trained", ended: bool = True, prompt: str = SEEN, data: str | None = None
) -> Runs:
    """A run whose final model is the scripted policy, trained on this prompt, sampling or on a version."""
    runs = Runs(workspace.root)
    run = runs.prepare(name)
    scripted_policy(run.folder / "model", POLICY)
    kept = pl.DataFrame({"prompt_id": pl.Series(plain_prompt_ids([prompt]), dtype=pl.Binary)})
    run.keep("data" if data else "prompts", kept.to_arrow())
    told = recipe().model_dump(mode="json")
    run.begin(RunRecord("id", "dpo", told, str(workspace.root.parent), "hf:start", data, "2026-01-01T00:00:00+00:00"))
    if ended:
        run.end(RunOutcome(1, "weights", {}))
    return runs


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Evaluation]]:
    with pytest.MonkeyPatch.context() as patch:
        use_scripts(patch)
        workspace = workspace_in(tmp_path_factory.mktemp("by_hand"))
        yield workspace, evaluated(workspace)


def test_means_of_two_policies_equal_hand_computation(by_hand: tuple[Workspace, Evaluation]) -> None:
    _, found = by_hand
    accuracy = found.overall.aspects["exact"]
    assert (found.held_out, found.overall.prompts, found.accuracies) == (2, 2, ["exact"])
    assert values(accuracy) == (0.75, 0.5, 0.25)
    # Paired by prompt: +1/2 on the sum, 0 on the product, so every resample lies between.
    assert bounds(accuracy.difference) == (0.0, 0.5)
    assert found.overall.reward.difference == accuracy.difference
    assert values(found.overall.tokens) == ((2 + 1 + 3 + 1) / 4, 5 / 4, 2 / 4)
    assert values(found.overall.cut) == (0.25, 0.0, 0.25)


def test_win_rate_by_scores_counts_every_match_of_a_prompt_and_ties_half(
    by_hand: tuple[Workspace, Evaluation],
) -> None:
    _, found = by_hand
    # Sum: 3, 3 against 3, 4: two ties, two wins. Product: 5, 1 against 5, 9: a tie, a win, a loss, a tie.
    assert outcomes(found) == (3, 4, 1, 0)
    assert win_rate(found).value == (3 + 4 / 2) / 8
    assert bounds(win_rate(found)) == (0.5, 0.75)


def test_divergence_from_the_start_equals_hand_computation(by_hand: tuple[Workspace, Evaluation]) -> None:
    _, found = by_hand
    ratios = [-0.6 + 0.2, -0.2 + 0.3, -1.0 + 0.6, -0.3 + 0.1]
    moved = divergence(found)
    assert moved.k1.value == pytest.approx(-sum(ratios) / 4, abs=1e-6)
    assert moved.k3.value == pytest.approx(sum(exp(r) - 1 - r for r in ratios) / 4, abs=1e-6)
    assert moved.per_token.value == pytest.approx(-sum(ratios) / 7, abs=1e-6)
    assert bounds(moved.k1) == pytest.approx((0.15, 0.3), abs=1e-6)
    assert found.overall.divergence["baseline"] is None


def test_second_evaluation_opens_no_model_and_says_the_same(
    by_hand: tuple[Workspace, Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, first = by_hand
    forbid_models(monkeypatch)
    again = evaluated(workspace)
    assert (work(first), work(again)) == ((8, 8, 0, 4), (0, 0, 0, 0))
    assert again.overall == first.overall


def test_fewer_prompts_are_some_of_those_that_are_known(by_hand: tuple[Workspace, Evaluation]) -> None:
    found = evaluated(by_hand[0], limit=1)
    assert (found.held_out, work(found)) == (1, (0, 0, 0, 0))


def test_same_weights_on_both_sides_differ_by_nothing(by_hand: tuple[Workspace, Evaluation]) -> None:
    found = evaluated(by_hand[0], "start")
    assert work(found) == (0, 0, 0, 4)
    assert (values(found.overall.reward)[2], bounds(found.overall.reward.difference)) == (0.0, (0.0, 0.0))
    assert (win_rate(found).value, bounds(win_rate(found))) == (0.5, (0.5, 0.5))


def test_baseline_that_is_not_the_start_has_a_divergence_of_its_own(by_hand: tuple[Workspace, Evaluation]) -> None:
    workspace, first = by_hand
    script = {**START, SUM: [said("4", [1], -0.4), said("4", [1], -0.4)]}
    found = evaluated(workspace, against=str(scripted_policy(workspace.root.parent / "other", script)))
    assert divergence(found) == divergence(first)
    # -0.4 + 0.1 twice, -0.1 + 0.5, and -0.2 + 1.0.
    assert divergence(found, "baseline").k1.value == pytest.approx((-0.3 * 2 + 0.4 + 0.8) / 4, abs=1e-6)


def test_failed_draws_are_a_share_and_in_no_mean(tmp_path: Path) -> None:
    found = evaluated(workspace_in(tmp_path, {SUM: [failed(), said("3")], PRODUCT: [failed(), failed()]}))
    assert values(found.overall.failed) == (0.75, 0.0, 0.75)
    accuracy = known(found.overall.aspects["exact"].policy)
    assert (accuracy.value, accuracy.rows) == (1.0, 1)
    assert win_rate(found).value == 0.75  # 3 against 3 and 4


def test_policy_that_draws_nothing_at_all_leaves_what_is_known_of_the_baseline(tmp_path: Path) -> None:
    found = evaluated(workspace_in(tmp_path, {SUM: [failed()] * 2, PRODUCT: [failed()] * 2})).overall
    assert (found.reward.policy, found.reward.difference, found.wins) == (None, None, None)
    assert known(found.reward.baseline).value == 0.5
    assert found.divergence["policy"] is None


def test_nothing_drawn_on_either_side_is_told(tmp_path: Path) -> None:
    nothing = {SUM: [failed()] * 2, PRODUCT: [failed()] * 2}
    with pytest.raises(SourceError, match=r"^none of 4 draws gave a completion \(4 refused\), expected some"):
        evaluated(workspace_in(tmp_path, start=nothing), "start")


def test_unlabelled_completions_are_in_no_mean_and_decide_no_match(tmp_path: Path) -> None:
    scorer = {"kind": "fake", "failures": {"undecided": 1.0}}
    found = evaluated(workspace_in(tmp_path), asked=recipe(score=[EXACT, scorer]))
    assert values(found.overall.unlabelled) == (1.0, 1.0, 0.0)
    assert found.overall.reward.policy is None
    assert values(found.overall.aspects["exact"]) == (0.75, 0.5, 0.25)
    # Equal texts are a tie whoever scores them: 3 against 3 twice, 5 against 5.
    assert outcomes(found) == (0, 3, 0, 5)


def test_completions_that_were_not_drawn_plainly_are_said_to_be_so(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    for changed, is_plain in (
        ({}, True),
        ({"temperature": 0.7}, False),
        ({"top_p": 0.9}, False),
        ({"top_k": 5}, False),
    ):
        found = evaluated(workspace, limit=1, asked=recipe(sample={"backend": "transformers", **changed}))
        assert found.plain is is_plain


# ------------------------------------------------------------------------------------------------------------ judges


def judged(endpoint: FakeEndpoint, **changes: object) -> Recipe:
    judge = {"kind": "judge", "mode": "pairwise", "endpoint": endpoint.url, "model": "judge", "revision": "r1"}
    return recipe(score=[judge | changes], select={"kind": "comparisons"})


def quality(*values: float) -> list[Said]:
    return [said(f"quality={value}") for value in values]


def test_win_rate_by_judges_is_asked_in_both_orders_for_pairs_of_both_sides(
    tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    policy = {SUM: quality(0.9, 0.5), PRODUCT: quality(0.1, 0.3)}
    start = {SUM: quality(0.5, 0.2), PRODUCT: quality(0.2, 0.6)}
    workspace = workspace_in(tmp_path, policy, start)
    found = evaluated(workspace, asked=judged(endpoint, orders="ab", against=0))
    # Sum: 0.9 beats both; 0.5 is the same text as 0.5 and beats 0.2. Product: 0.1 loses twice, 0.3 beats 0.2 alone.
    assert (found.decided_by, outcomes(found)) == ("judges", (4, 1, 3, 0))
    assert win_rate(found).value == 4.5 / 8
    assert work(found)[2] == len(endpoint.requests) == 7 * 2
    assert (found.overall.reward.policy, found.overall.aspects) == (None, {})
    again = evaluated(workspace, asked=judged(endpoint))
    assert (again.overall, work(again)) == (found.overall, (0, 0, 0, 0))
    assert work(evaluated(workspace, "start", asked=judged(endpoint)))[2] == 2 * 2  # the one pair of each prompt


def test_judge_that_takes_whatever_comes_first_decides_nothing(tmp_path: Path) -> None:
    policy, start = ({SUM: quality(*q), PRODUCT: quality(*q)} for q in ((0.9, 0.8), (0.1, 0.2)))
    with FakeEndpoint(Script(judge=SimulatedJudge(bias=1.0))) as endpoint:
        found = evaluated(workspace_in(tmp_path, policy, start), asked=judged(endpoint))
    assert outcomes(found) == (0, 8, 0, 0)


# -------------------------------------------------------------------------------------------------------------- runs


def test_final_model_of_a_run_is_evaluated_and_the_run_keeps_the_result(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    runs = run_of(workspace)
    found = evaluated(workspace, "trained")
    assert found.policy.name == "trained"
    evaluated(workspace, "trained")
    lines = (runs.get("trained").folder / EVALUATIONS).read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["overall"] == json.loads(json.dumps(found.to_json()["overall"]))


def test_evaluation_of_a_folder_against_a_run_leaves_the_run_alone(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    runs = run_of(workspace)
    found = evaluated(workspace, "start", against="trained")
    assert (found.policy.name, found.baseline.name) == ("start", "trained")
    assert values(found.overall.reward) == (0.5, 0.75, -0.25)
    assert not (runs.get("trained").folder / EVALUATIONS).exists()


@pytest.mark.parametrize("data", [None, "small@v1"])
def test_run_that_trained_on_a_held_out_prompt_is_refused(tmp_path: Path, data: str | None) -> None:
    workspace = workspace_in(tmp_path)
    run_of(workspace, prompt=SUM, data=data)
    told = r"^run 'trained' trained on 1 of the 2 prompts that the recipe holds out, expected none: [^\n]+$"
    for policy, against in (("trained", "start"), ("start", "trained")):
        with pytest.raises(RecipeError, match=told):
            evaluated(workspace, policy, against=against)


# -------------------------------------------------------------------------------------------------------- bad inputs

IMPORTED = {"kind": "imported", "scorer": "ann"}
WRONG: dict[str, tuple[Mapping[str, str], Mapping[str, object], str]] = {
    "no_test_split": ({}, {"prompts": {"path": "train.jsonl"}}, r"^recipe small holds no prompt out, .*`split\.test`"),
    "unknown_run": ({"word": "trainde"}, {}, r"^run 'trainde' does not exist; did you mean 'trained'\?$"),
    "unknown_baseline": ({"against": "trainde"}, {}, r"^run 'trainde' does not exist; did you mean 'trained'\?$"),
    "run_not_ended": ({"word": "stopped"}, {}, r"^run 'stopped' has not ended, .*`prefkit train --resume stopped`$"),
    "no_model": ({"word": __file__}, {}, r"^policy '.*py' does not exist: expected a model folder"),
    "imported_alone": ({}, {"score": [IMPORTED]}, r"^recipe small has only imported scorers \(ann\), expected one"),
    "imported_counts": (
        {},
        {"score": [EXACT, IMPORTED], "aggregate": {"kind": "weights", "weights": {"exact": 1, "ann": 1}}},
        r"^aggregate names 'ann', which was imported, .*: take it out of `aggregate`$",
    ),
    "no_sample": ({}, {"sample": []}, r"^recipe small has no `sample` block without its own `policy`, expected one"),
    "no_weights": ({}, {"sample": {"backend": "fake"}}, r"^sample backend 'fake' cannot be given the weights"),
    "no_policy": ({}, {"policy": None, "sample": {"backend": "fake"}}, r"^recipe small has no policy, expected the"),
}


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("runs")
    workspace = workspace_in(folder)
    (folder / "train.jsonl").write_text(json.dumps(PROBLEMS[2]))
    run_of(workspace)
    run_of(workspace, "stopped", ended=False)
    return workspace


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_evaluated_is_told_in_one_line_before_anything_is_drawn(
    case: str, with_runs: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, blocks, told = WRONG[case]
    forbid_models(monkeypatch)
    with pytest.raises((RecipeError, NotFoundError, SourceError), match=told) as raised:
        evaluated(with_runs, words.get("word", "policy"), words.get("against", "start"), asked=recipe(**blocks))
    assert "\n" not in str(raised.value)
