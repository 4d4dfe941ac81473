"""Random models of 100,000 parameters that read and write with the tokenizer of the arithmetic policy."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification
from transformers.utils import logging

from prefkit.engines.chat import Chat
from prefkit.engines.distribution import Distribution
from prefkit.engines.weights import weights_digest
from prefkit.sampling.protocol import Message, Sample, SampleFailure, Sampler, SampleRequest
from prefkit.sampling.weights import Logprobed, write_probe

logging.disable_progress_bar()

TOKENIZER = Path(__file__).parents[1] / "recipes" / "arithmetic" / "policy"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CONTEXT = 4096
END_ID = 1
SHARED = 220


def architecture(**settings: object) -> Qwen3Config:
    given: dict[str, object] = {
        "vocab_size": len(AutoTokenizer.from_pretrained(TOKENIZER)), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": CONTEXT, "pad_token_id": 0, "eos_token_id": END_ID, "bos_token_id": None,
        "initializer_range": 0.1, "dtype": "float32", **settings,
    }  # fmt: skip
    return Qwen3Config(**given)


def language_model(**settings: object) -> Qwen3ForCausalLM:
    """Half of its draws end within about 30 tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(architecture(**settings))
    with torch.no_grad():
        model.lm_head.weight[END_ID] *= 4
    return model.eval()


def classifier() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen3ForSequenceClassification(architecture(num_labels=1)).eval()


def written(model: PreTrainedModel, folder: Path) -> Path:
    """The model's folder, with tokenizer and chat template."""
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / name, folder)
    return folder


@cache
def chat() -> Chat:
    return Chat.from_folder(TOKENIZER)


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def request(number: int, text: str | None = None) -> SampleRequest:
    """Draw `number`, by default of a question of its own."""
    question = f"What is {number * 7 + 3} + {number * 31 % 97}?" + " Take your time." * (number % 5)
    return SampleRequest(number.to_bytes(16, "little"), user(question if text is None else text))


def outcomes(sampler: Sampler, requests: Sequence[SampleRequest]) -> dict[bytes, Sample | SampleFailure]:
    """By completion id; none came twice, none is missing."""
    drawn = [outcome for batch in sampler.sample(requests) for outcome in batch]
    found = {outcome.completion_id: outcome for outcome in drawn}
    assert len(found) == len(drawn) == len(requests)
    return found


def samples(sampler: Sampler, requests: Sequence[SampleRequest]) -> dict[bytes, Sample]:
    """As `outcomes`, when none failed."""
    found = {id: o for id, o in outcomes(sampler, requests).items() if isinstance(o, Sample)}
    assert len(found) == len(requests)
    return found


def tokens(drawn: dict[bytes, Sample]) -> dict[bytes, list[int]]:
    return {id: list(sample.token_ids or ()) for id, sample in drawn.items()}


def logprobs_of(
    model: PreTrainedModel, prompt_ids: Sequence[int], completion_ids: Sequence[int], distribution: Distribution
) -> list[float]:
    """Of each token of the completion, from one pass over it alone."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt_ids, *completion_ids]])).logits[0, len(prompt_ids) - 1 : -1]
    taken = torch.tensor(completion_ids)[:, None]
    return distribution.logprobs(logits).gather(-1, taken)[:, 0].tolist()


WHOLE = Distribution(temperature=1.0, top_p=1.0, top_k=None)


@dataclass(frozen=True)
class Learner:
    """The weights of a model in training; its probe is 24 tokens after a prompt of so many."""

    model: PreTrainedModel
    prompt_tokens: int = SHARED

    def digest(self) -> str:
        return weights_digest(self.tensors())

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.model.state_dict().items()

    def save(self, folder: Path) -> None:
        """A folder that can be opened as well."""
        write_probe(self.probe(), written(self.model, folder))

    def probe(self) -> Logprobed:
        prompt_ids = [5 + i * 37 % 400 for i in range(self.prompt_tokens)]
        completion_ids = [5 + i * 53 % 400 for i in range(24)]
        return Logprobed(prompt_ids, completion_ids, logprobs_of(self.model, prompt_ids, completion_ids, WHOLE))


def moved(model: PreTrainedModel, step: int) -> None:
    """Changes every weight in place, as a step of training would, only further."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.02)
