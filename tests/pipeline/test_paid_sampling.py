"""Sampling from an endpoint that wants money, within the budget of a recipe."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytest.importorskip("openai")

from prefkit.errors import RecipeError
from prefkit.pipeline.build import Built, build
from prefkit.pipeline.doctor.checkup import checkup
from prefkit.pipeline.doctor.findings import Severity
from prefkit.pipeline.dry_run import dry_run_of
from prefkit.pipeline.recipe import Recipe
from prefkit.store.workspace import Workspace
from prefkit.testing import FakeEndpoint, Fault, Script
from tests.pipeline.builders import recipe, workspace_in

PRICE = {"input": 2.5, "output": 10.0}
PROBLEMS, N = 6, 4


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(Script(judge=lambda asked: f"It is {round(40 * asked.uniform('sum'))}.")) as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path, PROBLEMS)


def paid(endpoint: FakeEndpoint, budget: Mapping[str, float] | None, **sample: object) -> Recipe:
    block = {"backend": "endpoint", "endpoint": endpoint.url, "n": N, "max_new_tokens": 20, "batch_size": 2}
    policy = {"model": "judge", "revision": "r1"}
    return recipe(sample=block | sample, policy=policy, budget=budget, hygiene={"duplicates": "off"})


def made(workspace: Workspace, asked: Recipe) -> Built:
    return build(asked, workspace, workspace.root.parent)


def drawn(done: Built) -> Mapping[str, int]:
    return next(account.outcomes for account in done.version.ledger if account.stage == "sample")


def test_draws_are_counted_as_the_endpoint_bills_them(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    done = made(workspace, paid(endpoint, {"usd": 1.0}, price=PRICE))
    assert drawn(done) == {"sampled": PROBLEMS * N}
    assert done.spent.tokens == endpoint.billed.input_tokens + endpoint.billed.output_tokens
    assert done.spent.usd == pytest.approx(endpoint.billed.usd)


def test_draws_beyond_the_budget_are_not_made_and_a_larger_budget_makes_them(
    workspace: Workspace, endpoint: FakeEndpoint
) -> None:
    first = made(workspace, paid(endpoint, {"tokens": 400}))
    found = drawn(first)
    assert set(found) == {"sampled", "over_budget"}
    assert len(endpoint.requests) == found["sampled"]
    assert 0 < endpoint.billed.input_tokens + endpoint.billed.output_tokens <= 400
    assert first.version.content["to_retry"] == found["over_budget"]
    second = made(workspace, paid(endpoint, {"tokens": 100_000}))
    assert (second.drawn, drawn(second)) == (found["over_budget"], {"sampled": PROBLEMS * N})


def test_draws_and_judgments_share_one_budget(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    judge = {
        "kind": "judge", "mode": "aspects", "aspects": ["honesty"], "endpoint": endpoint.url, "model": "judge",
        "revision": "r1", "max_tokens": 16, "price": PRICE,
    }  # fmt: skip
    limit = {"usd": 0.012}
    both = paid(endpoint, limit, price=PRICE).model_dump() | {"score": [judge], "select": {"kind": "best_vs_worst"}}
    done = made(workspace, Recipe.model_validate(both))
    assert drawn(done) == {"sampled": PROBLEMS * N}
    assert next(a.outcomes for a in done.version.ledger if a.stage == "score")["over_budget"] > 0
    assert endpoint.billed.usd == pytest.approx(done.spent.usd)
    assert done.spent.usd <= limit["usd"]


def test_draw_without_usage_is_charged_as_reserved(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    endpoint.script = Script(faults={Fault.NO_USAGE: 1.0})
    done = made(workspace, paid(endpoint, None))
    # 128 for the request, 16 and "user" for the message, a token for each of its bytes, and the longest reply
    prompts = [f"What is {i} + {i * i % 17}?" for i in range(PROBLEMS)]
    assert done.spent.tokens == N * sum(128 + 16 + len("user") + len(prompt) + 20 for prompt in prompts)


def test_money_without_a_price_is_told_before_anything_is_drawn(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    unpriced = paid(endpoint, {"usd": 1.0})
    with pytest.raises(RecipeError, match=r"^budget\.usd is set and policy 'judge' has no price, [^\n]+$"):
        made(workspace, unpriced)
    findings = checkup(unpriced, workspace.root.parent, workspace).findings
    assert [f.message for f in findings if f.severity is Severity.ERROR] == [
        "budget.usd is set and policy judge has no price, expected one"
    ]
    assert all(logged.request.method == "GET" for logged in endpoint.requests)


def test_dry_run_forecasts_draws_at_no_less_than_is_then_billed(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    asked = paid(endpoint, {"usd": 1.0}, price=PRICE, system="Answer with a number and nothing else.")
    (forecast,) = dry_run_of(asked, workspace, workspace.root.parent).forecasts
    assert (forecast.calls, forecast.output_tokens, endpoint.requests) == (PROBLEMS * N, PROBLEMS * N * 20, [])
    made(workspace, asked)
    assert forecast.usd is not None
    assert endpoint.billed.input_tokens <= forecast.input_tokens
    assert endpoint.billed.usd <= forecast.usd
    assert dry_run_of(asked, workspace, workspace.root.parent).forecasts == ()


def test_price_is_no_part_of_what_a_draw_is(workspace: Workspace, endpoint: FakeEndpoint) -> None:
    made(workspace, paid(endpoint, None))
    again = made(workspace, paid(endpoint, {"usd": 1.0}, price=PRICE))
    assert (again.drawn, again.new) == (0, False)
