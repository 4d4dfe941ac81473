"""Sampling from a random language model of 70,000 parameters that speaks in words."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM  # noqa: E402

from prefkit.engines.chat import Chat  # noqa: E402
from prefkit.engines.transformers_sampler import TransformersSampler  # noqa: E402
from prefkit.errors import RecipeError, SourceError  # noqa: E402
from prefkit.sampling.config import PolicyConfig  # noqa: E402
from prefkit.sampling.config import TransformersSampler as Settings  # noqa: E402
from prefkit.sampling.policy import policy_id  # noqa: E402
from prefkit.sampling.protocol import (  # noqa: E402
    FinishReason,
    Message,
    Sample,
    SampleFailure,
    SampleFailureKind,
    SampleRequest,
)
from prefkit.sampling.registry import open_sampler  # noqa: E402

SPECIAL = ("<pad>", "<end>", "<user>", "<assistant>", "<system>")
END_ID = 1
CONTEXT = 128
NEW_TOKENS = 24
TEMPLATE = (
    "{% for m in messages %}{% if 'image' in m['content'] %}{{ raise_exception('no images') }}{% endif %}"
    "{{ '<' + m['role'] + '> ' + m['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tiny_tokenizer(words: int = 250) -> PreTrainedTokenizerFast:
    vocabulary = [*SPECIAL, *(f"w{i}" for i in range(words))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", additional_special_tokens=list(SPECIAL[2:])
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(words: int = 250, end_bias: float = 0.0) -> Qwen3ForCausalLM:
    """`end_bias` makes the end of the turn likelier; at 2, half of the draws end within 12 tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=words + len(SPECIAL),
                hidden_size=48,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=12,
                max_position_embeddings=CONTEXT,
                tie_word_embeddings=False,
                pad_token_id=0,
                eos_token_id=END_ID,
                initializer_range=0.2,
            )
        )
    with torch.no_grad():
        model.lm_head.weight[END_ID] *= 1 + end_bias
    return model.eval()


def tiny_sampler(model: Qwen3ForCausalLM | None = None, **settings: object) -> TransformersSampler:
    given = {"backend": "transformers", "max_new_tokens": NEW_TOKENS, "device": "cpu", **settings}
    config = Settings.model_validate(given)
    return TransformersSampler(config, model or tiny_model(), Chat(tiny_tokenizer(), config.system), "hf:tiny")


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def words(number: int, count: int) -> str:
    return " ".join(f"w{(number * 31 + i * 17) % 250}" for i in range(count))


def request(number: int, text: str | None = None) -> SampleRequest:
    """Draw `number`; by default of a prompt of 3 to 60 words, as the number goes."""
    return SampleRequest(
        number.to_bytes(16, "little"), user(words(number, 3 + number * 7 % 58) if text is None else text)
    )


def drawn(sampler: TransformersSampler, requests: list[SampleRequest]) -> dict[bytes, Sample]:
    """Samples by completion id, when none failed and none came twice."""
    outcomes = [outcome for batch in sampler.sample(requests) for outcome in batch]
    samples = {o.completion_id: o for o in outcomes if isinstance(o, Sample)}
    assert len(samples) == len(outcomes) == len(requests)
    return samples


def tokens(samples: dict[bytes, Sample]) -> dict[bytes, list[int]]:
    return {key: list(sample.token_ids or ()) for key, sample in samples.items()}


def fresh_logits(model: Qwen3ForCausalLM, request: SampleRequest, sample: Sample) -> torch.Tensor:
    """Logits that predict each token of the completion, from one pass over it alone: shape [tokens, vocabulary]."""
    prompt_ids = Chat(tiny_tokenizer()).prompt_ids(request.prompt)
    token_ids = list(sample.token_ids or ())
    with torch.no_grad():
        logits = model(torch.tensor([prompt_ids + token_ids])).logits[0]
    return logits[len(prompt_ids) - 1 : -1].double()


def of_tokens(logprobs: torch.Tensor, sample: Sample) -> list[float]:
    return logprobs.gather(-1, torch.tensor(sample.token_ids)[:, None])[:, 0].tolist()


# ------------------------------------------------------------------------------------------------ row independence


def test_sample_has_the_same_tokens_shuffled_repadded_halved_and_in_part():
    model, requests = tiny_model(end_bias=2.0), [request(i) for i in range(256)]
    base = tokens(drawn(tiny_sampler(model), requests))

    shuffled = list(requests)
    Random(1).shuffle(shuffled)
    assert tokens(drawn(tiny_sampler(model), shuffled)) == base
    assert tokens(drawn(tiny_sampler(model, batch_size=32), requests)) == base

    longest = [request(1000 + i, words(i, 95)) for i in range(16)]  # pad other rows, and leave with them
    mixed = tokens(drawn(tiny_sampler(model, batch_size=300), requests + longest))
    assert {key: mixed[key] for key in base} == base

    part = [r for i, r in enumerate(requests) if Random(i).random() < 0.6]
    assert tokens(drawn(tiny_sampler(model), part)) == {r.completion_id: base[r.completion_id] for r in part}
    # A sampler that ignored the noise, or whose rows all ended together, would pass all of the above.
    assert len({tuple(t) for t in base.values()}) > 200
    assert len({len(t) for t in base.values()}) > 10


def test_sample_of_another_seed_or_id_has_other_tokens():
    text, count = words(0, 5), 64
    base = drawn(tiny_sampler(), [request(i, text) for i in range(count)])
    other = drawn(tiny_sampler(seed=1), [request(i, text) for i in range(count)])
    assert len({tuple(t) for t in tokens(base).values()}) == count
    assert all(tokens(base)[key] != tokens(other)[key] for key in base)


def test_sample_leaves_torchs_global_generator_alone():
    before = torch.get_rng_state()
    drawn(tiny_sampler(), [request(0)])
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------------------------------------------- log-probs


def test_behavior_logprobs_equal_a_fresh_forward_pass_at_temperature_one():
    model, requests = tiny_model(end_bias=2.0), [request(i) for i in range(48)]
    samples = drawn(tiny_sampler(model, temperature=0.7, top_p=0.9), requests)
    for r in requests:
        sample = samples[r.completion_id]
        expected = of_tokens(fresh_logits(model, r, sample).log_softmax(-1), sample)
        assert sample.behavior_logprobs == pytest.approx(expected, abs=1e-4)


def test_sampling_logprobs_equal_tempered_and_truncated_probabilities_of_a_fresh_forward_pass():
    model, requests = tiny_model(end_bias=2.0), [request(i) for i in range(48)]
    samples = drawn(tiny_sampler(model, temperature=0.7, top_p=0.9), requests)
    for r in requests:
        sample = samples[r.completion_id]
        expected = []
        for row, token in zip(fresh_logits(model, r, sample), sample.token_ids or (), strict=True):
            nucleus, reached = [], 0.0
            powers = (row / 0.7).softmax(-1).tolist()
            for candidate in sorted(range(len(powers)), key=lambda i: -powers[i]):
                nucleus.append(candidate)
                reached += powers[candidate]
                if reached >= 0.9:
                    break
            assert token in nucleus
            expected.append(torch.tensor(powers[token] / reached).log().item())
        assert sample.sampling_logprobs == pytest.approx(expected, abs=1e-4)


def test_sampling_and_behavior_logprobs_agree_at_temperature_one_without_truncation():
    for sample in drawn(tiny_sampler(), [request(i) for i in range(8)]).values():
        assert sample.sampling_logprobs == sample.behavior_logprobs


def test_greedy_tokens_equal_transformers_generate():
    model, requests = tiny_model(end_bias=2.0), [request(i) for i in range(32)]
    samples = drawn(tiny_sampler(model, temperature=0), requests)
    for r in requests:
        prompt = torch.tensor([Chat(tiny_tokenizer()).prompt_ids(r.prompt)])
        expected = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW_TOKENS
        )
        assert samples[r.completion_id].token_ids == expected[0, prompt.shape[1] :].tolist()
        assert set(samples[r.completion_id].sampling_logprobs or ()) == {0.0}


def test_first_tokens_are_distributed_as_the_softmax_says():
    model, text, count = tiny_model(words=15), words(0, 4), 4000
    requests = [request(i, text) for i in range(count)]
    config = Settings(backend="transformers", max_new_tokens=1, device="cpu", batch_size=1000)
    sampler = TransformersSampler(config, model, Chat(tiny_tokenizer(words=15)), "hf:tiny")
    firsts = [s.token_ids[0] for s in drawn(sampler, requests).values() if s.token_ids]
    with torch.no_grad():
        ids = Chat(tiny_tokenizer(words=15)).prompt_ids(requests[0].prompt)
        expected = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1) * count
    observed = torch.bincount(torch.tensor(firsts), minlength=len(expected)).double()
    common = expected >= 5
    chi_square = ((observed - expected) ** 2 / expected)[common].sum().item()
    freedom = int(common.sum()) - 1
    assert freedom > 5
    # The statistic has mean `freedom` and variance 2 x `freedom`.
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


# ------------------------------------------------------------------------------------------------------- endings


def test_sample_ends_with_the_end_token_or_at_the_limit_and_says_which():
    samples = drawn(tiny_sampler(tiny_model(end_bias=2.0)), [request(i) for i in range(64)])
    reasons = [s.finish_reason for s in samples.values()]
    assert reasons.count(FinishReason.STOP) > 5
    assert reasons.count(FinishReason.LENGTH) > 5
    for sample in samples.values():
        ids = list(sample.token_ids or ())
        assert (END_ID in ids) == (sample.finish_reason is FinishReason.STOP)
        assert END_ID not in ids[:-1]
        assert len(ids) == NEW_TOKENS or sample.finish_reason is FinishReason.STOP
        assert len(sample.sampling_logprobs or ()) == len(sample.behavior_logprobs or ()) == len(ids)
        assert "<end>" not in sample.text
        assert sample.text.split() == [f"w{i - len(SPECIAL)}" for i in ids if i >= len(SPECIAL)]


def test_sample_ends_at_every_end_token_of_the_generation_config():
    model = tiny_model()
    plain = drawn(tiny_sampler(model), [request(i) for i in range(32)])
    second = max(range(len(SPECIAL), 255), key=lambda t: sum(t in (s.token_ids or ()) for s in plain.values()))
    model.generation_config.eos_token_id = [END_ID, second]
    ended = drawn(tiny_sampler(model), [request(i) for i in range(32)])
    for key, sample in plain.items():
        ids = list(sample.token_ids or ())
        assert ended[key].token_ids == (ids[: ids.index(second) + 1] if second in ids else ids)


def test_sample_text_ends_before_a_stop_string_and_tokens_with_it():
    requests = [request(i) for i in range(16)]
    plain = drawn(tiny_sampler(), requests)
    middle = plain[requests[0].completion_id].text.split()[5:7]
    stop = " ".join(middle)
    sample = drawn(tiny_sampler(stop=[stop]), requests)[requests[0].completion_id]
    whole = plain[requests[0].completion_id]
    assert sample.finish_reason is FinishReason.STOP
    assert sample.text == whole.text[: whole.text.index(stop)]
    assert list(sample.token_ids or ()) == list(whole.token_ids or ())[: len(sample.token_ids or ())]
    assert f"w{(sample.token_ids or ())[-1] - len(SPECIAL)}" == middle[-1]


def test_sample_puts_the_system_message_before_the_prompt():
    text = words(3, 6)
    given = SampleRequest(bytes(16), [{"role": "system", "content": "w1 w2"}, *user(text)])
    configured = drawn(tiny_sampler(system="w1 w2"), [request(0, text)])
    assert tokens(configured) == tokens(drawn(tiny_sampler(), [given]))
    assert tokens(configured) != tokens(drawn(tiny_sampler(), [request(0, text)]))


# ------------------------------------------------------------------------------------------------------ failures


def failed(outcomes: list[Sample | SampleFailure]) -> dict[bytes, SampleFailureKind]:
    return {o.completion_id: o.kind for o in outcomes if isinstance(o, SampleFailure)}


def test_prompt_that_leaves_no_room_fails_and_its_siblings_do_not():
    # The template adds three tokens: 101 + 3 + 24 = 128, the context.
    fits, too_long = request(0, words(0, CONTEXT - NEW_TOKENS - 3)), request(1, words(0, CONTEXT - NEW_TOKENS - 2))
    outcomes = [o for batch in tiny_sampler().sample([fits, too_long, request(2)]) for o in batch]
    assert failed(outcomes) == {too_long.completion_id: SampleFailureKind.PROMPT_TOO_LONG}
    assert len(outcomes) == 3


def test_prompt_that_the_template_refuses_fails_with_its_reason_and_its_siblings_do_not():
    outcomes = [o for batch in tiny_sampler().sample([request(0), request(1, "image w1")]) for o in batch]
    assert failed(outcomes) == {request(1).completion_id: SampleFailureKind.UNSUPPORTED_CONTENT}
    assert [o.detail for o in outcomes if isinstance(o, SampleFailure)] == ["no images"]


def test_policy_with_broken_weights_fails_every_draw_instead_of_inventing_text():
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    outcomes = [o for batch in tiny_sampler(model).sample([request(0), request(1)]) for o in batch]
    assert set(failed(outcomes).values()) == {SampleFailureKind.ABORTED}
    assert len(outcomes) == 2


# ------------------------------------------------------------------------------------------------------- opening


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def opened(folder: Path, **settings: object) -> TransformersSampler:
    config = Settings.model_validate({"backend": "transformers", "device": "cpu", "max_new_tokens": 8, **settings})
    sampler = open_sampler(config, PolicyConfig(model=str(folder)))
    assert isinstance(sampler, TransformersSampler)
    return sampler


def test_open_sampler_gives_the_draws_of_the_folder_under_its_policy_id(folder: Path):
    sampler = opened(folder)
    assert sampler.policy_id == policy_id(str(folder))
    assert sampler.deterministic
    assert tokens(drawn(sampler, [request(0)])) == tokens(drawn(tiny_sampler(max_new_tokens=8), [request(0)]))


def test_open_sampler_in_bfloat16_samples_but_does_not_claim_to_be_deterministic(folder: Path):
    sampler = opened(folder, dtype="bfloat16")
    assert not sampler.deterministic
    assert len(drawn(sampler, [request(0), request(1)])) == 2


def test_open_sampler_refuses_a_folder_that_lacks_weights_of_the_model(folder: Path):
    model = tiny_model()
    kept = {name: tensor for name, tensor in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(folder, state_dict=kept)
    with pytest.raises(SourceError, match="lacks"):
        opened(folder)


def test_open_sampler_refuses_damaged_weights_in_one_line(folder: Path):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SourceError, match=r"cannot be loaded") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_open_sampler_refuses_a_tokenizer_larger_than_the_model(folder: Path):
    tiny_tokenizer(words=300).save_pretrained(folder)
    with pytest.raises(SourceError, match="305 tokens, expected at most the 255"):
        opened(folder)


def test_open_sampler_refuses_a_template_that_cannot_render_a_question(folder: Path):
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(SourceError, match="chat template"):
        opened(folder)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_open_sampler_refuses_a_device_that_is_not_there(folder: Path, device: str):
    with pytest.raises(RecipeError, match=device):
        opened(folder, device=device)


def test_sample_yields_batches_of_the_configured_size_longest_prompts_first():
    requests = [request(i) for i in range(10)]
    lengths = {r.completion_id: len(r.prompt[0]["content"].split()) for r in requests}
    batches = list(tiny_sampler(batch_size=4).sample(requests))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert all(
        min(lengths[o.completion_id] for o in earlier) >= max(lengths[o.completion_id] for o in later)
        for earlier, later in pairwise(batches)
    )
