"""Log-probs of given tokens under random models of every shape that matters, against whole forward passes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from prefkit.engines import logprobs as engine  # noqa: E402
from prefkit.engines.chat import Chat  # noqa: E402
from prefkit.engines.logprobs import TransformersReference  # noqa: E402
from prefkit.engines.logprobs_forward import LOGITS_AT_ONCE  # noqa: E402
from prefkit.engines.logprobs_packing import Batch  # noqa: E402
from prefkit.errors import RecipeError, SourceError  # noqa: E402
from prefkit.sampling.config import PolicyConfig  # noqa: E402
from prefkit.sampling.config import TransformersSampler as SamplerSettings  # noqa: E402
from prefkit.sampling.protocol import Message, Sample, SampleRequest  # noqa: E402
from prefkit.sampling.registry import open_sampler  # noqa: E402
from prefkit.shift.protocol import Text, Trained  # noqa: E402
from prefkit.shift.registry import Reference, open_reference, reference_id  # noqa: E402

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
VOCABULARY = 464
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 256,
    "pad_token_id": 0, "eos_token_id": 1, "initializer_range": 0.2,
}  # fmt: skip
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
KINDS: dict[str, Callable[[], PreTrainedModel]] = {
    "untied": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA, tie_word_embeddings=False)),
    "tied": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA, tie_word_embeddings=True)),
    "large_vocabulary": lambda: Qwen3ForCausalLM(Qwen3Config(**{**LLAMA, "vocab_size": 40_000})),
    "learned_positions": lambda: GPT2LMHeadModel(GPT2Config(**SMALL, n_embd=48, n_positions=256)),
    "alibi": lambda: BloomForCausalLM(BloomConfig(**SMALL, hidden_size=48)),
    "softcapped": lambda: Gemma2ForCausalLM(Gemma2Config(**LLAMA, final_logit_softcapping=2.0, sliding_window=16)),
    "multiplied": lambda: CohereForCausalLM(CohereConfig(**LLAMA, logit_scale=0.3)),
    "divided": lambda: GraniteForCausalLM(GraniteConfig(**LLAMA, logits_scaling=4.0)),
    "sliding_window": lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=16)),
    "recurrent": lambda: MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=2)),
}


def made(kind: str = "untied") -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KINDS[kind]().eval().requires_grad_(False)


def reference(model: PreTrainedModel, batch_tokens: int | None = None) -> TransformersReference:
    return TransformersReference(model, Chat.from_folder(POLICY), "hf:test", batch_tokens=batch_tokens)


def rows(prompts: int = 12, seed: int = 0, vocabulary: int = VOCABULARY) -> list[Trained]:
    """Prompts of 2 to 60 tokens with 1 to 6 completions of 1 to 90 tokens each, shuffled."""
    random = Random(seed)

    def tokens(count: int) -> list[int]:
        return [random.randrange(vocabulary) for _ in range(count)]

    made_up: list[Trained] = []
    for _ in range(prompts):
        prompt = tokens(random.randint(2, 60))
        for _ in range(random.randint(1, 6)):
            key = len(made_up).to_bytes(16, "little")
            made_up.append(Trained(key, prompt, tokens(random.choice([1, 2, random.randint(3, 90)])), cut=0))
    random.shuffle(made_up)
    return made_up


def scored(model: TransformersReference, given: Sequence[Trained]) -> dict[bytes, list[float]]:
    """Log-probs by id, when no row is missing, comes twice or has another number of them than of tokens."""
    outcomes = [outcome for batch in model.logprobs(given) for outcome in batch]
    by_id = {outcome.id: list(outcome.logprobs) for outcome in outcomes}
    assert len(by_id) == len(outcomes)
    assert {key: len(values) for key, values in by_id.items()} == {row.id: row.tokens for row in given}
    return by_id


def whole_pass(model: PreTrainedModel, given: Sequence[Trained], side: str = "right") -> dict[bytes, list[float]]:
    """From one padded forward pass over all rows with all logits."""
    longest = max(len(row.prompt_ids) + row.tokens for row in given)
    tokens, mask = torch.zeros(len(given), longest, dtype=torch.long), torch.zeros(len(given), longest)
    starts: list[int] = []
    for place, row in enumerate(given):
        ids = torch.tensor([*row.prompt_ids, *row.completion_ids])
        start = 0 if side == "right" else longest - len(ids)
        tokens[place, start : start + len(ids)] = ids
        mask[place, start : start + len(ids)] = 1
        starts.append(start + len(row.prompt_ids))
    extra = {} if side == "right" else {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0).long()}
    with torch.no_grad():
        logprobs = model(input_ids=tokens, attention_mask=mask.long(), **extra).logits.float().log_softmax(-1)
    return {
        row.id: [logprobs[place, start + i - 1, token].item() for i, token in enumerate(row.completion_ids)]
        for place, (row, start) in enumerate(zip(given, starts, strict=True))
    }


def one_by_one(model: PreTrainedModel, given: Sequence[Trained]) -> dict[bytes, list[float]]:
    return {key: values for row in given for key, values in whole_pass(model, [row]).items()}


def furthest(one: dict[bytes, list[float]], other: dict[bytes, list[float]]) -> float:
    assert one.keys() == other.keys()
    return max(abs(a - b) for key in one for a, b in zip(one[key], other[key], strict=True))


# ------------------------------------------------------------------------------------------- equal to a forward pass


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_of_every_kind_of_model_equal_those_of_each_row_alone(kind: str):
    model = made(kind)
    given = rows(vocabulary=model.config.vocab_size)
    assert furthest(scored(reference(model), given), one_by_one(model, given)) < 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_logprobs_equal_a_padded_forward_pass_at_any_batch_size(side: str, batch_tokens: int):
    model, given = made(), rows()
    assert furthest(scored(reference(model, batch_tokens), given), whole_pass(model, given, side)) < 1e-4


TURNS: list[Message] = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 more?"},
]
TEXTS = [
    Text(bytes([i, k]), prompt, [{"role": "assistant", "content": f"{i} + {k} = {i + k}. " * (1 + 4 * k)}])
    for i, prompt in enumerate((TURNS[:1], TURNS, [{"role": "system", "content": "Be brief."}, *TURNS]))
    for k in range(4)
]


@pytest.fixture(scope="module", params=["tied", "untied"])
def scoring(request: pytest.FixtureRequest) -> PreTrainedModel:
    return made(request.param)


@pytest.mark.parametrize("side", ["left", "right"])
@settings(deadline=None, max_examples=15)
@given(batch_tokens=st.integers(1, 4000), max_length=st.integers(40, 100))
def test_logprobs_of_conversations_cut_anywhere_equal_a_padded_forward_pass_at_any_batch_size(
    scoring: PreTrainedModel, side: str, batch_tokens: int, max_length: int
):
    opened = reference(scoring, batch_tokens)
    trained = opened.trained(TEXTS, max_length)
    assert any(row.cut and row.tokens for row in trained)
    assert furthest(scored(opened, trained), whole_pass(scoring, trained, side)) < 1e-4


@pytest.mark.parametrize("kind", ["untied", "softcapped"])
def test_logprobs_of_a_row_are_the_same_alone_shuffled_and_in_part(kind: str):
    model, given = reference(made(kind)), rows(30)
    base = scored(model, given)
    shuffled = Random(1).sample(given, len(given))
    assert furthest(base, scored(model, shuffled)) < 1e-5
    assert furthest(base, scored(model, shuffled[:20]) | scored(model, shuffled[20:])) < 1e-5
    alone = {key: values for row in given for key, values in scored(model, [row]).items()}
    assert furthest(base, alone) < 1e-5


def test_logprobs_sum_to_one_over_all_tokens_that_could_stand_there():
    model, prompt = reference(made()), rows()[0].prompt_ids
    every = [Trained(token.to_bytes(16, "little"), prompt, [token], cut=0) for token in range(VOCABULARY)]
    total = torch.tensor([values[0] for values in scored(model, every).values()]).double().exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_row_without_tokens_gets_no_logprobs_and_does_not_hold_up_the_others():
    model, (first, second, *_) = reference(made()), rows()
    empty = Trained(b"empty", first.prompt_ids, [], cut=7)
    assert scored(model, [empty]) == {b"empty": []}
    assert scored(model, [first, empty, second]).keys() == {b"empty", first.id, second.id}


def test_logprobs_in_bfloat16_are_near_those_in_float32_and_are_not_rounded_to_it():
    given = rows()
    half, exact = scored(reference(made().to(torch.bfloat16)), given), one_by_one(made(), given)
    values = torch.tensor([value for row in given for value in half[row.id]])
    distances = (values - torch.tensor([value for row in given for value in exact[row.id]])).abs()
    assert distances.mean() < 0.05
    assert (values == values.bfloat16()).float().mean() < 0.1


def test_behavior_logprobs_of_the_sampler_are_those_of_the_same_model():
    config = SamplerSettings(backend="transformers", max_new_tokens=24, device="cpu", temperature=0.7)
    questions: list[list[Message]] = [[{"role": "user", "content": f"What is {i} + {i * 7}?"}] for i in range(6)]
    requests = {bytes([i, k] * 8): SampleRequest(bytes([i, k] * 8), q) for i, q in enumerate(questions) for k in (1, 2)}
    sampler = open_sampler(config, PolicyConfig(model=str(POLICY)))
    samples = [s for batch in sampler.sample(list(requests.values())) for s in batch if isinstance(s, Sample)]
    opened = open_reference(Reference(str(POLICY), device="cpu"))
    texts = [
        Text(s.completion_id, requests[s.completion_id].prompt, [{"role": "assistant", "content": s.text}], s.token_ids)
        for s in samples
    ]
    given = opened.trained(texts, max_length=None)
    assert len(given) == len(requests)
    assert [row.completion_ids for row in given] == [s.token_ids for s in samples]
    fresh = {outcome.id: list(outcome.logprobs) for batch in opened.logprobs(given) for outcome in batch}
    assert furthest(fresh, {s.completion_id: list(s.behavior_logprobs or ()) for s in samples}) < 1e-5
    assert opened.model_id == reference_id(Reference(str(POLICY))) == sampler.policy_id


# ----------------------------------------------------------------------------------------------- what is paid for


def seen_by(module: torch.nn.Module, work: Callable[[], object]) -> list[tuple[int, ...]]:
    """Shapes of what a module put out during some work."""
    shapes: list[tuple[int, ...]] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    work()
    hook.remove()
    return shapes


def test_only_completion_tokens_meet_the_vocabulary_and_only_so_many_at_once():
    model = made("large_vocabulary")
    opened, given = reference(model, batch_tokens=2048), rows(vocabulary=40_000)
    shapes = seen_by(model.lm_head, lambda: scored(opened, given))
    assert sum(shape[0] for shape in shapes) == sum(row.tokens for row in given)
    assert max(shape[0] * shape[1] for shape in shapes) <= LOGITS_AT_ONCE["cpu"]


@pytest.mark.parametrize(("kind", "times"), [("untied", 1), ("sliding_window", 8)])
def test_prompt_of_a_group_is_read_once_unless_layers_look_through_a_window(kind: str, times: int):
    model, prompt = made(kind), list(range(40))
    opened = reference(model, batch_tokens=1)
    group = [Trained(bytes([i]), prompt, [100 + i] * 5, cut=0) for i in range(8)]
    shapes = seen_by(model.get_input_embeddings(), lambda: scored(opened, group))
    assert sum(rows * length for rows, length, _ in shapes) == times * len(prompt) + 8 * 4


def test_batch_that_does_not_fit_into_memory_is_cut_until_it_does(monkeypatch: pytest.MonkeyPatch):
    model, given = reference(made(), batch_tokens=100_000), rows()
    base, forward = scored(model, given), engine.token_logprobs

    def cramped(network: PreTrainedModel, batch: Batch, projects: bool) -> torch.Tensor:
        if batch.tokens.numel() > 600:
            raise torch.OutOfMemoryError
        return forward(network, batch, projects)

    monkeypatch.setattr(engine, "token_logprobs", cramped)
    assert furthest(scored(model, given), base) < 1e-5
    long = Trained(b"long", [1] * 100, [2] * 600, cut=0)
    with pytest.raises(RecipeError, match="a text of 699 tokens does not fit into the memory of cpu"):
        scored(model, [*given, long])


# --------------------------------------------------------------------------------------------------- refused models


def test_model_that_sees_what_comes_after_is_refused():
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    with pytest.raises(SourceError, match="no causal language model"):
        reference(BertLMHeadModel(config).eval())


def test_model_that_gives_no_finite_numbers_is_refused():
    model = made()
    opened = reference(model)
    model.lm_head.weight[0] = float("nan")
    with pytest.raises(SourceError, match=r"not finite in float32"):
        scored(opened, rows())
