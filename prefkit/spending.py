"""What calls to paid models cost, and hard limits on what those of a build may spend, in tokens and in US dollars.

Before every attempt its worst case is reserved; afterwards the reservation is settled by what was really used, or stays
charged whole where that is unknown. At all times

    spent + reserved <= limit

so nothing that is sent can break the limit, as long as no attempt uses more than its worst case. Worst cases are far
above what calls use: who is not covered waits while reservations are open, because settling them frees budget, and is
turned away when none of that can help any more, that is when spent + worst case > limit.

Money is counted in whole trillionths of a dollar, so sums are exact.
"""

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from pydantic import Field

from prefkit.config import Config
from prefkit.errors import RecipeError

TRILLION = 10**12
TOKENS_PER_PRICE = 10**6


class Price(Config):
    """Money per million tokens, in US dollars."""

    input: float = Field(ge=0)
    """Per million input tokens."""
    output: float = Field(ge=0)
    """Per million output tokens."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens (input and output) and money (trillionths of a US dollar)."""

    tokens: int = 0
    money: int = 0

    @property
    def usd(self) -> float:
        """The money in US dollars."""
        return self.money / TRILLION

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens - other.tokens, self.money - other.money)


def amount(input_tokens: int, output_tokens: int, price: Price | None) -> Amount:
    """What these tokens come to; without a price they cost nothing that is known. Rounded up."""
    tokens = input_tokens + output_tokens
    return Amount(tokens) if price is None else Amount(tokens, money(input_tokens, output_tokens, price))


def money(input_tokens: int, output_tokens: int, price: Price) -> int:
    """The price of these tokens in trillionths of a US dollar, rounded up."""
    per_token = TRILLION // TOKENS_PER_PRICE
    exact = Decimal(repr(price.input)) * input_tokens + Decimal(repr(price.output)) * output_tokens
    return int((exact * per_token).to_integral_value(ROUND_CEILING))


@dataclass(slots=True)
class Accounts:
    """What is limited, spent and reserved: the arithmetic alone. A limit of None does not bind."""

    token_limit: int | None = None
    money_limit: int | None = None
    spent: Amount = Amount()
    reserved: Amount = Amount()

    def covers(self, worst: Amount) -> bool:
        """Whether the worst case can be reserved now."""
        return self._within(self.spent + self.reserved + worst)

    def could_cover(self, worst: Amount) -> bool:
        """Whether it can be reserved once every open reservation turns out to cost nothing."""
        return self._within(self.spent + worst)

    def reserve(self, worst: Amount) -> None:
        """Sets the worst case aside. Money that was already committed may exceed the limits."""
        self.reserved += worst

    def settle(self, worst: Amount, used: Amount) -> None:
        """Ends a reservation: what was used is spent, the rest is free."""
        self.reserved -= worst
        self.spent += used

    def _within(self, total: Amount) -> bool:
        tokens_fit = self.token_limit is None or total.tokens <= self.token_limit
        return tokens_fit and (self.money_limit is None or total.money <= self.money_limit)


@dataclass(frozen=True, slots=True)
class _Waiting:
    worst: Amount
    granted: Future[bool]


class Budget:
    """The accounts of a build, shared by all its transports in all their threads.

    Raises RecipeError for a limit that is not above 0.
    """

    def __init__(self, usd: float | None = None, tokens: int | None = None) -> None:
        for name, limit in (("usd", usd), ("tokens", tokens)):
            if limit is not None and not limit > 0:
                raise RecipeError(f"budget.{name} is {limit}, expected more than 0: raise it, or leave it out")
        limit = None if usd is None else int((Decimal(repr(usd)) * TRILLION).to_integral_value(ROUND_FLOOR))
        self._accounts = Accounts(tokens, limit)
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    @property
    def limits_money(self) -> bool:
        """Whether calls need a price."""
        return self._accounts.money_limit is not None

    @property
    def spent(self) -> Amount:
        """What was settled so far."""
        with self._lock:
            return self._accounts.spent

    def require_price(self, price: Price | None, who: str) -> None:
        """Raises RecipeError when money is limited and the tokens of `who` have no price."""
        if self.limits_money and price is None:
            raise RecipeError(
                f"budget.usd is set and {who} has no price, expected what its tokens cost: "
                f"add `price: {{input: ..., output: ...}}` (US dollars per million tokens), or limit `budget.tokens`"
            )

    def reserve(self, worst: Amount) -> "Future[bool]":
        """Becomes true when the worst case is reserved, false when the budget cannot cover it any more.

        Whoever got true settles; whoever stops waiting calls `withdraw`.
        """
        waiting = _Waiting(worst, Future())
        with self._lock:
            self._waiting.append(waiting)
            self._serve()
        return waiting.granted

    def withdraw(self, worst: Amount, granted: "Future[bool]") -> None:
        """Takes back a `reserve` whose answer nobody waits for any more."""
        if not granted.cancel() and granted.result():
            self.settle(worst, Amount())

    def reserve_now(self, worst: Amount) -> bool:
        """Reserves the worst case if that is possible without waiting."""
        with self._lock:
            covered = not self._waiting and self._accounts.covers(worst)
            if covered:
                self._accounts.reserve(worst)
            return covered

    def commit(self, worst: Amount) -> None:
        """Reserves for a call that was already made, whatever the limits say."""
        with self._lock:
            self._accounts.reserve(worst)

    def settle(self, worst: Amount, used: Amount) -> None:
        """Ends a reservation by what was used of it, and serves those who wait."""
        with self._lock:
            self._accounts.settle(worst, used)
            self._serve()

    def _serve(self) -> None:
        # In order of arrival, but one that must wait lets smaller ones pass: nobody idles beside free budget.
        still: deque[_Waiting] = deque()
        for waiting in self._waiting:
            if not self._accounts.could_cover(waiting.worst):
                if waiting.granted.set_running_or_notify_cancel():
                    waiting.granted.set_result(False)
            elif not self._accounts.covers(waiting.worst):
                still.append(waiting)
            elif waiting.granted.set_running_or_notify_cancel():
                self._accounts.reserve(waiting.worst)
                waiting.granted.set_result(True)
        self._waiting = still
