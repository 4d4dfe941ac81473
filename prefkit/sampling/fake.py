"""A sampler without a model: seeded answers to arithmetic questions, right about half of the time.

Every draw is a function of its completion id, the seed and the weights it was last sent, as with a real policy in
float32. For tests the answers can be replaced and shares of the draws made to fail; which ones fail depends on their
ids alone.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from random import Random

from prefkit.sampling.config import FakeSampler as FakeSamplerConfig
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.protocol import FinishReason, Message, Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.weights import Weights

POLICY_ID = "fake:arithmetic"
EOS_ID = 1
VOCABULARY = 32_000
OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
QUESTION = re.compile(r"(-?\d+)\s*([+*-])\s*(-?\d+)")
OPENINGS = ("Let me see.", "We work it out.", "This is quick.", "Step by step:", "I count.")

Respond = Callable[[Sequence[Message], int], str]
"""From a prompt and a 64-bit number that belongs to the draw, to the text."""


def answer_arithmetic(prompt: Sequence[Message], draw: int) -> str:
    """`... The answer is N.`: right for half of the draws of `What is a + b?`, sometimes right for other questions."""
    random = Random(draw)
    right = _value(prompt[-1]["content"] if prompt else "", random)
    answer = right if random.random() < 0.5 else right + random.choice([-1, 1]) * random.randint(1, 10)
    return f"{random.choice(OPENINGS)} The answer is {answer}."


def _value(question: str, random: Random) -> int:
    if found := QUESTION.search(question.replace("−", "-").replace("×", "*")):  # noqa: RUF001
        return OPERATIONS[found[2]](int(found[1]), int(found[3]))
    numbers = [int(n) for n in re.findall(r"\d{1,9}", question)][:2]
    if len(numbers) < 2:
        return random.randint(0, 20)
    return random.choice(list(OPERATIONS.values()))(*numbers)


class FakeSampler:
    """A sampler for tests and dry runs.

    `policy_id` stands for the weights: give another `respond` another one. `failures` maps a kind to the share of draws
    that fail with it; it is not part of the policy's id, since a failing server has the same weights.
    """

    def __init__(
        self,
        config: FakeSamplerConfig,
        respond: Respond = answer_arithmetic,
        failures: Mapping[SampleFailureKind, float] | None = None,
        policy_id: str = POLICY_ID,
    ) -> None:
        self._config = config
        self._respond = respond
        self._failures = dict(failures or {})
        self._policy_id = policy_id
        self._version = 0
        self._weights = b""

    @classmethod
    def open(cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> "FakeSampler":
        """The backend `fake` of a recipe; it has no use for a policy."""
        assert isinstance(config, FakeSamplerConfig)
        return cls(config, policy_id=policy_id)

    @property
    def policy_id(self) -> str:
        return self._policy_id

    @property
    def policy_version(self) -> int:
        return self._version

    @property
    def deterministic(self) -> bool:
        return True

    def close(self) -> None:
        """It holds nothing."""

    def sync(self, weights: Weights, policy_version: int) -> float:
        """From now on every draw is another one, that belongs to the digest of these weights."""
        self._weights = weights.digest().encode()
        self._version = policy_version
        return 0.0

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        size = self._config.batch_size
        for start in range(0, len(requests), size):
            yield [self._draw(request) for request in requests[start : start + size]]

    def _draw(self, request: SampleRequest) -> Sample | SampleFailure:
        fate = Random(b"fate" + request.completion_id).random()
        for kind, share in self._failures.items():
            if fate < share:
                return SampleFailure(request.completion_id, kind, "injected")
            fate -= share
        salt = self._config.seed.to_bytes(8, "little")
        key = blake2b(request.completion_id + self._weights, digest_size=8, salt=salt).digest()
        draw = int.from_bytes(key, "little")
        return self._finished(request.completion_id, self._respond(request.prompt, draw), draw)

    def _finished(self, completion_id: bytes, text: str, draw: int) -> Sample:
        limit = self._config.max_new_tokens
        pieces = re.findall(r"\s*\S+", text)
        ends = len(pieces) < limit
        token_ids = [_token_id(piece) for piece in pieces[:limit]] + [EOS_ID] * ends
        random = Random(draw)
        behavior_logprobs = [-random.expovariate(1.0) for _ in token_ids]
        return Sample(
            completion_id=completion_id,
            text=text if ends else "".join(pieces[:limit]),
            finish_reason=FinishReason.STOP if ends else FinishReason.LENGTH,
            token_ids=token_ids,
            # A temperature below 1 makes what is drawn likelier than it was under the policy itself.
            sampling_logprobs=[logprob * self._config.temperature for logprob in behavior_logprobs],
            behavior_logprobs=behavior_logprobs,
        )


def _token_id(piece: str) -> int:
    return 2 + int.from_bytes(blake2b(piece.encode(), digest_size=4).digest(), "little") % (VOCABULARY - 2)
