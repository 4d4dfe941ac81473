"""What a sampler says of its own draws against a reference model with its weights, over the tokens a trainer sees."""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, log1p
from pathlib import Path
from typing import cast

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase  # noqa: E402

from prefkit.engines.chat import Chat  # noqa: E402
from prefkit.engines.logprobs import TransformersReference  # noqa: E402
from prefkit.engines.planning import planned  # noqa: E402
from prefkit.engines.policy_tokens import PolicyTokens  # noqa: E402
from prefkit.engines.transformers_sampler import TransformersSampler  # noqa: E402
from prefkit.errors import SourceError  # noqa: E402
from prefkit.sampling.config import TransformersSampler as Settings  # noqa: E402
from prefkit.sampling.protocol import Message, Sample, SampleRequest, with_system  # noqa: E402
from prefkit.shift.live import open_tokens  # noqa: E402
from prefkit.shift.protocol import Text, Trained  # noqa: E402
from prefkit.shift.registry import Reference  # noqa: E402
from tests_engines.models import TOKENIZER, TOKENIZER_FILES, language_model  # noqa: E402

TURN = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
OPENING = "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
TEMPLATES = {
    "own": None,
    "text_after_the_end": TURN.replace("<|end|>", r"<|end|>\n") + OPENING,
    "longer_opening": TURN + OPENING.replace("<|assistant|>", "<|assistant|>So: "),
    "default_system": "{% if messages[0]['role'] != 'system' %}{{ '<|system|>Help.<|end|>' }}{% endif %}"
    + TURN
    + OPENING,
    "trimmed": TURN.replace("m['content']", "m['content'] | trim") + OPENING,
}
PROMPTS: list[list[Message]] = [
    [{"role": "user", "content": "What is 3 + 4?"}],
    [
        {"role": "user", "content": "What is 3 + 4?"},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "+ 2?"},
    ],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " two  spaces "}],
]
SYSTEM = "You answer with one number."
BETA = 0.1


def tokenizer(template: str = "own") -> PreTrainedTokenizerBase:
    loaded = AutoTokenizer.from_pretrained(TOKENIZER)
    loaded.chat_template = TEMPLATES[template] or loaded.chat_template
    return cast(PreTrainedTokenizerBase, loaded)


def requests(count: int) -> list[SampleRequest]:
    return [SampleRequest(i.to_bytes(16, "little"), PROMPTS[i % len(PROMPTS)]) for i in range(count)]


def text(request: SampleRequest, sample: Sample, system: str | None) -> Text:
    completion: list[Message] = [{"role": "assistant", "content": sample.text}]
    return Text(request.completion_id, with_system(request.prompt, system), completion, sample.token_ids)


# ------------------------------------------------------------------------------------------------------ the same tokens


@pytest.mark.parametrize("system", [None, SYSTEM, ""])
@pytest.mark.parametrize("template", TEMPLATES)
def test_prompt_that_is_trained_on_has_the_tokens_that_the_sampler_read(template: str, system: str | None):
    read, failures = planned(Chat(tokenizer(template), system), requests(3), None, 8)
    assert not failures
    drawn = [20, 21, 1]
    reads_as = Chat(tokenizer(template)).text(drawn)
    sample = Sample(b"", reads_as, "stop", drawn, None, None)  # type: ignore[arg-type]
    texts = [text(one.request, sample, system) for one in read]
    trained = PolicyTokens(Chat(tokenizer(template)), "policy").trained(texts, None)
    assert [list(row.prompt_ids) for row in trained] == [list(one.token_ids) for one in read]
    assert [list(row.completion_ids) for row in trained] == [drawn] * 3
    # A system message makes a difference to every prompt: leaving it out would be seen.
    plain, _ = planned(Chat(tokenizer(template)), requests(3), None, 8)
    assert all((a.token_ids != b.token_ids) == (system is not None) for a, b in zip(plain, read, strict=True))


def test_tokens_come_from_a_folder_that_holds_no_weights_at_all(tmp_path: Path):
    for name in TOKENIZER_FILES:
        (tmp_path / name).write_bytes((TOKENIZER / name).read_bytes())
    texts = [Text(bytes([i]), prompt, [{"role": "assistant", "content": "7"}]) for i, prompt in enumerate(PROMPTS)]
    model = language_model(tie_word_embeddings=True)
    expected = TransformersReference(model, Chat.from_folder(TOKENIZER), "hf:whole").trained(texts, 24)
    assert open_tokens(Reference(str(tmp_path))).trained(texts, 24) == expected


def test_tokens_of_a_folder_without_a_tokenizer_are_refused_in_one_line(tmp_path: Path):
    with pytest.raises(SourceError, match=r"tokenizer of policy .* cannot be read"):
        open_tokens(Reference(str(tmp_path)))


# ------------------------------------------------------------------------------------------------------- the same sums


def models() -> dict[str, PreTrainedModel]:
    trained = AutoModelForCausalLM.from_pretrained(TOKENIZER, dtype=torch.float32).eval()
    return {"random": language_model(tie_word_embeddings=False), "arithmetic": trained}


def sums(reference: TransformersReference, rows: Sequence[Trained]) -> dict[bytes, float]:
    return {scored.id: sum(scored.logprobs) for batch in reference.logprobs(rows) for scored in batch}


@pytest.mark.parametrize("kind", ["random", "arithmetic"])
def test_behavior_logprobs_are_those_of_a_reference_with_the_samplers_weights_so_dpo_starts_at_log_2(kind: str):
    model = models()[kind]
    config = Settings.model_validate(
        {"backend": "transformers", "device": "cpu", "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 32,
         "system": SYSTEM}
    )  # fmt: skip
    sampler = TransformersSampler(config, model, Chat(tokenizer(), SYSTEM), "run/1")
    asked = {request.completion_id: request for request in requests(48)}
    drawn = [sample for batch in sampler.sample(list(asked.values())) for sample in batch if isinstance(sample, Sample)]
    reference = TransformersReference(model, Chat(tokenizer()), "run/1")
    rows = reference.trained([text(asked[s.completion_id], s, SYSTEM) for s in drawn], None)
    policy = sums(reference, rows)
    behavior = {s.completion_id: sum(s.behavior_logprobs or ()) for s in drawn}
    assert behavior == pytest.approx(policy, abs=1e-5)
    for chosen, rejected in pairwise(asked):
        margin = policy[chosen] - behavior[chosen] - (policy[rejected] - behavior[rejected])
        assert log1p(exp(-BETA * margin)) == pytest.approx(log(2), abs=1e-5)
    # What was really sampled from is another distribution: as a reference it would not do.
    sampling = {s.completion_id: sum(s.sampling_logprobs or ()) for s in drawn}
    assert max(abs(sampling[key] - policy[key]) for key in asked) > 0.1
