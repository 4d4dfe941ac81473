import threading
from concurrent.futures import Future
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.spending import TRILLION, Accounts, Amount, Budget, Price, amount, money


def test_money_of_tokens_is_exact_where_floats_are_not():
    # 0.15 dollars a million tokens is 150,000 trillionths a token; 3 tokens are 450,000, and 1 output token at 0.6 is
    # 600,000. In floats 0.15 * 3 / 1e6 is 4.4999999999999996e-07.
    assert money(3, 1, Price(input=0.15, output=0.6)) == 1_050_000
    assert money(1, 0, Price(input=0.0000001, output=0)) == 1  # rounded up, never down to nothing
    assert amount(3, 1, None) == Amount(4, 0)


def test_accounts_with_hand_worked_calls():
    accounts = Accounts(token_limit=100)
    accounts.reserve(Amount(60))
    assert not accounts.covers(Amount(41))
    assert accounts.could_cover(Amount(41))  # the 60 may turn out to be 10
    accounts.settle(Amount(60), Amount(10))
    assert accounts.covers(Amount(90))
    assert not accounts.could_cover(Amount(91))


@dataclass
class Attempt:
    worst: Amount
    granted: "Future[bool]"


WORST = st.builds(Amount, st.integers(1, 60), st.integers(1, 60))


@given(st.data(), st.integers(1, 100), st.integers(1, 100))
def test_budget_under_any_interleaving_is_kept_and_never_idles(data: st.DataObject, tokens: int, dollars: int):
    budget = Budget(usd=dollars / TRILLION, tokens=tokens)
    attempts: list[Attempt] = []
    spent = Amount()
    while len(attempts) < 25 and data.draw(st.integers(0, 9)) < 9:
        held = [a for a in attempts if a.granted.done() and a.granted.result()]
        if held and data.draw(st.booleans()):
            attempt = data.draw(st.sampled_from(held))
            attempts.remove(attempt)
            share = data.draw(st.integers(0, 100))
            used = Amount(attempt.worst.tokens * share // 100, attempt.worst.money * share // 100)
            budget.settle(attempt.worst, used)
            spent += used
        else:
            worst = data.draw(WORST)
            attempts.append(Attempt(worst, budget.reserve(worst)))
        held = [a for a in attempts if a.granted.done() and a.granted.result()]
        open_worst = sum((a.worst for a in held), Amount())
        at_most = spent + open_worst
        assert budget.spent == spent
        assert at_most.tokens <= tokens
        assert at_most.money <= dollars
        for waiting in (a.worst for a in attempts if not a.granted.done()):
            later, now = spent + waiting, at_most + waiting
            turned_away = later.tokens > tokens or later.money > dollars
            served = now.tokens <= tokens and now.money <= dollars
            assert not turned_away
            assert not served


def test_budget_waiter_that_gives_up_reserves_nothing():
    budget = Budget(tokens=10)
    assert budget.reserve(Amount(8)).result()
    early, late = budget.reserve(Amount(5)), budget.reserve(Amount(6))
    budget.withdraw(Amount(5), early)
    budget.settle(Amount(8), Amount(4))
    assert late.result(timeout=1)
    budget.withdraw(Amount(6), late)  # also when the answer is already there
    assert budget.reserve_now(Amount(6))


def test_budget_shared_by_threads_is_never_exceeded():
    budget, spent = Budget(tokens=1_000), []

    def work():
        while budget.reserve(Amount(50)).result():
            budget.settle(Amount(50), Amount(7))
            spent.append(7)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Work goes on until 50 more tokens would not fit: 951 is the first sum of sevens above 950, and 952 it is.
    assert sum(spent) == 952 == budget.spent.tokens


@pytest.mark.parametrize("limits", [{"usd": 0}, {"usd": -1.0}, {"tokens": 0}])
def test_budget_of_nothing_is_refused_in_one_line(limits: dict[str, float]):
    with pytest.raises(RecipeError, match=r"^budget\.\w+ is -?[\d.]+, expected more than 0: [^\n]+$"):
        Budget(**limits)


def test_budget_in_money_without_a_price_is_refused_in_one_line():
    with pytest.raises(RecipeError, match=r"budget\.usd is set and judge 'j' has no price"):
        Budget(usd=1.0).require_price(None, "judge 'j'")
    Budget(tokens=1).require_price(None, "judge 'j'")
