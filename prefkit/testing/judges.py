"""What a fake endpoint answers: a judge whose taste, bias and noise are known.

A text says how good it is: `quality=0.7`, between 0 and 1. The judge reads those numbers in the order in which the
texts are shown. One text is rated; of two, the first is preferred

    with probability b           whatever the texts are (a negative b: the second),
    with probability 1 - |b|     if its quality plus N(0, noise) exceeds the other's plus N(0, noise).

So over both orders of a pair, P(first preferred) - P(second preferred) is exactly b.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

QUALITY = re.compile(r"quality=(-?\d+(?:\.\d+)?)")
DEFAULT_SCALE = (1, 5)
TIES = 1e-12
"""Qualities closer than this are equal."""

JsonSchema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """One chat request as the judge sees it. `uniform(purpose)` in [0, 1) belongs to the request's whole content."""

    messages: Sequence[Mapping[str, str]]
    schema: JsonSchema | None
    max_tokens: int | None
    uniform: Callable[[str], float]

    @property
    def qualities(self) -> list[float]:
        """The qualities stated in the last message, in order."""
        return [float(found) for found in QUALITY.findall(self.messages[-1]["content"])]


Judge = Callable[[Asked], str]
"""From a request to the text of the reply."""


@dataclass(frozen=True, slots=True)
class SimulatedJudge:
    """Replies as the request's JSON schema asks; without a schema, `Rating: 4` or `[[A]]`, `[[B]]`, `[[C]]` for a tie.

    In a schema, numbers are ratings on their own scale (`minimum` to `maximum`, or the `enum`), an `enum` of strings
    goes from the first text to the second, and other strings are filled with a remark. With `chatty`, JSON comes
    fenced in prose, as from servers that do not constrain replies.
    """

    bias: float = 0.0
    noise: float = 0.0
    chatty: bool = False

    def __call__(self, asked: Asked) -> str:
        opinion = self.opinion(asked)
        if asked.schema is None:
            return _plain(opinion, pairwise=len(asked.qualities) > 1)
        reply = json.dumps(_filled(asked.schema, opinion))
        return f"Let me think about this.\n```json\n{reply}\n```\nThat is my judgment." if self.chatty else reply

    def opinion(self, asked: Asked) -> float:
        """In [0, 1]: how good the one text is, or how sure the first of two is preferred (0.5: a tie)."""
        qualities = asked.qualities
        if len(qualities) < 2:
            quality = qualities[0] if qualities else asked.uniform("quality")
            return min(1.0, max(0.0, quality + self.noise * _normal(asked, "rating")))
        if asked.uniform("bias") < abs(self.bias):
            return 1.0 if self.bias > 0 else 0.0
        first, second = (q + self.noise * _normal(asked, f"text {i}") for i, q in enumerate(qualities[:2]))
        return 0.5 if abs(first - second) < TIES else float(first > second)


def _normal(asked: Asked, purpose: str) -> float:
    # Box and Muller (1958); 1 - u is never 0.
    radius = math.sqrt(-2 * math.log(1 - asked.uniform(f"{purpose} radius")))
    return radius * math.cos(2 * math.pi * asked.uniform(f"{purpose} angle"))


def _plain(opinion: float, pairwise: bool) -> str:
    if pairwise:
        return "Both were read with care. " + ("[[A]]" if opinion > 0.5 else "[[B]]" if opinion < 0.5 else "[[C]]")
    low, high = DEFAULT_SCALE
    return f"It was read with care. Rating: {round(low + opinion * (high - low))}"


def _filled(schema: JsonSchema, opinion: float) -> object:
    if "enum" in schema:
        return _choice(cast("Sequence[object]", schema["enum"]), opinion)
    match schema.get("type"):
        case "object":
            properties = cast("Mapping[str, JsonSchema]", schema.get("properties", {}))
            return {name: _filled(part, opinion) for name, part in properties.items()}
        case "array":
            return [_filled(cast(JsonSchema, schema.get("items", {"type": "string"})), opinion)]
        case "integer":
            return round(_on_scale(schema, opinion))
        case "number":
            return round(_on_scale(schema, opinion), 4)
        case "boolean":
            return opinion > 0.5
        case _:
            return "It was read with care."


def _choice(choices: Sequence[object], opinion: float) -> object:
    last = len(choices) - 1
    if all(isinstance(choice, str) for choice in choices):
        return choices[round((1 - opinion) * last)]
    return sorted(cast("Sequence[float]", choices))[round(opinion * last)]


def _on_scale(schema: JsonSchema, opinion: float) -> float:
    low = cast(float, schema.get("minimum", DEFAULT_SCALE[0]))
    high = cast(float, schema.get("maximum", DEFAULT_SCALE[1]))
    return low + opinion * (high - low)
