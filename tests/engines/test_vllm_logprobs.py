"""What a reference over vLLM asks, and makes of the answers; a model of transformers stands in for the engine."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: E402

from prefkit.engines.chat import Chat  # noqa: E402
from prefkit.engines.logprobs import TransformersReference  # noqa: E402
from prefkit.engines.vllm import logprobs as vllm_logprobs  # noqa: E402
from prefkit.engines.vllm.asks import Answer, Ask, AskFailure, Outcome  # noqa: E402
from prefkit.engines.vllm.logprobs import VllmReference  # noqa: E402
from prefkit.errors import MissingExtraError, RecipeError, SourceError  # noqa: E402
from prefkit.sampling.protocol import Message, SampleFailureKind  # noqa: E402
from prefkit.shift.protocol import Text, Trained  # noqa: E402
from prefkit.shift.registry import Reference, open_reference  # noqa: E402

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
CHAT = Chat.from_folder(POLICY)
[SEVEN] = CHAT.token_ids(["7"])


def turn(text: str, role: str = "user") -> Message:
    return {"role": role, "content": text}


TEXTS = [
    Text(b"plain", [turn("What is 3 + 4?")], [turn("3 + 4 = 7. The answer is 7.", "assistant")]),
    Text(b"group", [turn("What is 3 + 4?")], [turn("8", "assistant")]),
    Text(b"turns", [turn("2 + 2?"), turn("4", "assistant"), turn("And 1 more?")], [turn("5", "assistant")]),
    Text(b"one token", [turn("What is 3 + 4?")], [turn("7", "assistant")], token_ids=SEVEN),
    Text(b"cut", [turn("What is 8 - 3?")], [turn("8 - 3 = 5. " * 20, "assistant")]),
    Text(b"too long a prompt", [turn("12 + 30 + " * 40)], [turn("7", "assistant")]),
]


class ModelEngine:
    """Answers asks one by one, the last first, as vLLM's engine would, from forward passes of a model."""

    context = 128

    def __init__(self, model: PreTrainedModel) -> None:
        self.waiting: list[Ask] = []
        self.replies: dict[int, AskFailure | Exception] = {}
        self.closed = False
        self._model = model
        self._answered = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting)

    def submit(self, ask: Ask) -> None:
        assert len(ask.prompt_ids) + ask.max_tokens <= self.context
        assert ask.id not in {other.id for other in self.waiting}
        self.waiting.append(ask)

    def finished(self) -> Sequence[Outcome]:
        if not self.waiting:
            return ()
        ask = self.waiting.pop()
        reply = self.replies.get(self._answered)
        self._answered += 1
        if isinstance(reply, Exception):
            raise reply
        return [(ask.id, reply or self._answer(ask))]

    def _answer(self, ask: Ask) -> Answer:
        with torch.no_grad():
            logprobs = self._model(torch.tensor([ask.prompt_ids])).logits[0].log_softmax(-1)
        of_prompt = [logprobs[place, token].item() for place, token in enumerate(ask.prompt_ids[1:])]
        read = None if ask.read_token is None else logprobs[-1, ask.read_token].item()
        return Answer([5], [-9.0], "length", of_prompt if ask.read_prompt else (), read)

    def cancel(self) -> None:
        self.waiting.clear()

    def load(self, files: Sequence[str], label: str) -> None:
        raise AssertionError("a reference keeps its weights")

    def reset_cache(self) -> None:
        raise AssertionError("a reference keeps its weights")

    def label(self) -> str | None:
        return None

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return cast(PreTrainedModel, AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval())


@pytest.fixture
def engine(model: PreTrainedModel) -> ModelEngine:
    return ModelEngine(model)


def opened(engine: ModelEngine) -> VllmReference:
    return VllmReference(engine, CHAT, "hf:policy", "float32", "reference 'policy'")


def scored(reference: VllmReference | TransformersReference, rows: Sequence[Trained]) -> dict[bytes, list[float]]:
    """By id; none is missing and none comes twice."""
    outcomes = [outcome for batch in reference.logprobs(rows) for outcome in batch]
    assert sorted(outcome.id for outcome in outcomes) == sorted(row.id for row in rows)
    return {outcome.id: list(outcome.logprobs) for outcome in outcomes}


def test_tokens_and_logprobs_are_those_of_the_transformers_engine(engine: ModelEngine, model: PreTrainedModel):
    ours, theirs = opened(engine), TransformersReference(model, CHAT, "hf:policy")
    rows = ours.trained(TEXTS, max_length=64)
    assert rows == theirs.trained(TEXTS, max_length=64)
    assert {row.id: (row.tokens == 1, row.cut > 0) for row in rows} == {
        b"plain": (False, False), b"group": (False, False), b"turns": (False, False), b"one token": (True, False),
        b"cut": (False, True), b"too long a prompt": (False, True),
    }  # fmt: skip
    found, expected = scored(ours, rows), scored(theirs, rows)
    assert found[b"too long a prompt"] == []
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=1e-4)


def test_text_as_long_as_the_context_is_read_and_a_longer_one_is_refused(engine: ModelEngine):
    reference = opened(engine)
    rows = reference.trained(TEXTS, max_length=ModelEngine.context)
    assert max(len(row.prompt_ids) + row.tokens for row in rows) == ModelEngine.context
    assert len(scored(reference, rows)) == len(TEXTS)
    with pytest.raises(RecipeError, match=r"reads at most 128 tokens, got 2 of 6 texts.*set max_length to 128 or less"):
        reference.trained(TEXTS, max_length=129)


def test_scoring_that_is_given_up_leaves_nothing_under_way(engine: ModelEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm_logprobs, "AT_ONCE", 1)
    reference = opened(engine)
    batches = reference.logprobs(reference.trained(TEXTS[:4], max_length=64))
    assert [outcome.id for outcome in next(iter(batches))] == [b"one token"]
    batches.close()  # type: ignore[attr-defined]
    assert not engine.busy


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (AskFailure(SampleFailureKind.ABORTED, "vLLM ended it: abort"), SourceError, "vLLM ended it: abort; run"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            RecipeError,
            r"up to 26 tokens, do not fit .*: lower max_length",
        ),
    ],
    ids=["aborted", "memory"],
)
def test_trouble_of_the_engine_is_one_line_and_what_was_scored_stands(
    engine: ModelEngine, reply: AskFailure | Exception, kind: type[Exception], said: str
):
    engine.replies = {2: reply}
    reference = opened(engine)
    batches = reference.logprobs(reference.trained(TEXTS[:4], max_length=64))
    assert {outcome.id for outcome in next(iter(batches))} == {b"one token", b"turns"}
    with pytest.raises(kind, match=said):
        next(iter(batches))
    assert not engine.busy


def test_numbers_that_are_not_finite_are_refused(model: PreTrainedModel):
    class Broken(ModelEngine):
        def _answer(self, ask: Ask) -> Answer:
            return Answer([5], [-9.0], "length", [float("nan")] * (len(ask.prompt_ids) - 1), -1.0)

    reference = opened(Broken(model))
    with pytest.raises(SourceError, match=r"'policy' gave log-probs that are not finite in float32"):
        scored(reference, reference.trained(TEXTS[:1], max_length=64))


def test_device_that_vllm_cannot_be_told_is_refused():
    with pytest.raises(RecipeError, match=r"check\.device is 'cuda:1', expected auto with vLLM"):
        open_reference(Reference(str(POLICY), device="cuda:1", backend="vllm"))


def test_reference_without_vllm_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"reference in vLLM needs vllm.*pip install 'prefkit\[vllm\]'"):
        open_reference(Reference(str(POLICY), backend="vllm"))
