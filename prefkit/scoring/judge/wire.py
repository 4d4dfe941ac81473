"""A call as the endpoint reads it, and the most it can cost."""

import json
from dataclasses import dataclass

from prefkit.identity import Json
from prefkit.scoring.judge.calls import Call, Spent
from prefkit.spending import Amount, Price, amount, money

TOKENS_PER_MESSAGE = 16
"""More than any known chat template adds around a message."""
TOKENS_PER_REQUEST = 128
"""More than known chat templates add to a conversation: their own system prompt, a date, the opening of the reply."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Input and output tokens."""

    input: int
    output: int

    def amount(self, price: Price | None) -> Amount:
        """What they come to."""
        return amount(self.input, self.output, price)

    def spent(self, price: Price | None) -> Spent:
        """The same as a row records it."""
        cost = None if price is None else money(self.input, self.output, price) / 10**12
        return Spent(self.input, self.output, cost)

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input + other.input, self.output + other.output)


NO_TOKENS = Tokens(0, 0)


def request_body(call: Call, model: str, temperature: float, length_parameter: str = "max_tokens") -> dict[str, Json]:
    """The JSON body of a chat request. Lone surrogates, which UTF-8 cannot write, become question marks."""
    body: dict[str, Json] = {
        "model": model,
        "messages": [{"role": m["role"], "content": _writable(m["content"])} for m in call.messages],
        length_parameter: call.max_tokens,
        "temperature": temperature,
    }
    if call.seed is not None:
        body["seed"] = call.seed
    if call.schema is not None:
        form = {"name": "reply", "strict": True, "schema": call.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def worst_case(call: Call) -> Tokens:
    """No fewer tokens than the call can use: a tokenizer makes at most one of each UTF-8 byte.

    The schema counts as input, since some servers write it into the prompt.
    """
    said = sum(TOKENS_PER_MESSAGE + _bytes(m["role"]) + _bytes(m["content"]) for m in call.messages)
    schema = 0 if call.schema is None else _bytes(json.dumps(call.schema))
    return Tokens(TOKENS_PER_REQUEST + said + schema, call.max_tokens)


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


def _writable(text: str) -> str:
    return text.encode(errors="replace").decode()
