"""A tiny policy made from nothing, pairs of texts, and a stream over a list of rows."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl import DPOConfig, DPOTrainer

from prefkit.pipeline.recipe import TrainConfig
from prefkit.stream.protocol import Row, Weights
from prefkit_trainers.models import Policy

WORDS = 40
SPECIAL = ("<pad>", "<end>", "<user>", "<assistant>")
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
QUIET = {"gradient_checkpointing": False, "logging_steps": 1, "save_strategy": "no", "per_device_train_batch_size": 4}
"""A small training that logs every step."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = [*SPECIAL, *(f"w{i}" for i in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", additional_special_tokens=list(SPECIAL[2:])
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(context: int = 256, tied: bool = True, dropout: float = 0.0, seed: int = 0) -> Qwen3ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=WORDS + len(SPECIAL),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                max_position_embeddings=context,
                tie_word_embeddings=tied,
                attention_dropout=dropout,
                pad_token_id=0,
                bos_token_id=None,
                eos_token_id=1,
            )
        )


def tiny_policy(**model: object) -> Policy:
    return Policy(tiny_model(**model), tiny_tokenizer())


def save_tiny_policy(folder: Path, **model: object) -> Path:
    """A model folder, as it may be downloaded."""
    tiny_model(**model).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def text_pairs(count: int, seed: int = 0) -> list[dict[str, list[dict[str, str]]]]:
    """Conversational pairs of TRL's format, of various lengths."""
    random = Random(seed)

    def said(role: str, most: int) -> list[dict[str, str]]:
        words = " ".join(f"w{random.randrange(WORDS)}" for _ in range(random.randint(1, most)))
        return [{"role": role, "content": words}]

    return [
        {"prompt": said("user", 6), "chosen": said("assistant", 8), "rejected": said("assistant", 8)}
        for _ in range(count)
    ]


def token_rows(pairs: Sequence[Mapping[str, list[dict[str, str]]]], model: Qwen3ForCausalLM) -> list[dict[str, object]]:
    """The same pairs as a stream gives them: tokens, and sums of the model's own log-probs as the reference's."""
    tokenizer = tiny_tokenizer()

    def ids(messages: list[dict[str, str]], opening: bool) -> list[int]:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    rows: list[dict[str, object]] = []
    for pair in pairs:
        prompt = ids(pair["prompt"], True)
        row: dict[str, object] = {"prompt_ids": prompt, "source": "made up", "policy_version": 0}
        for side in ("chosen", "rejected"):
            completion = ids([*pair["prompt"], *pair[side]], False)[len(prompt) :]
            row |= {f"{side}_ids": completion, f"ref_{side}_logps": logps(model, prompt, completion)}
        rows.append(row)
    return rows


@torch.no_grad()
def logps(model: Qwen3ForCausalLM, prompt: Sequence[int], completion: Sequence[int]) -> float:
    tokens = torch.tensor([[*prompt, *completion]])
    logits = type(model).forward(model.eval(), input_ids=tokens).logits[0, len(prompt) - 1 : -1]
    model.train()
    return logits.log_softmax(-1).gather(-1, tokens[0, len(prompt) :, None]).sum().item()


@dataclass
class ListStream:
    """Rows of a list, over and over if `endless`; state is the number of rows served. Remembers what it was told."""

    given: Sequence[Row]
    folder: Path | None = None
    served: int = 0
    endless: bool = False
    per_log: Mapping[str, float] = field(default_factory=dict[str, float])
    told: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    served_at_step: dict[int, int] = field(default_factory=dict[int, int])

    def rows(self) -> Iterator[Row]:
        while self.endless or self.served < len(self.given):
            self.served += 1
            yield self.given[(self.served - 1) % len(self.given)]

    def begin(self, step: int, weights: Weights) -> None:
        self.told.append(("begin", step))
        self.served_at_step[step] = self.served

    def step_done(self, step: int, weights: Weights) -> None:
        self.told.append(("step", step))
        self.served_at_step[step] = self.served

    def metrics(self) -> Mapping[str, float]:
        return self.per_log

    def save(self, step: int, weights: Weights) -> None:
        self.told.append(("save", step))
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"step-{step}.json").write_text(json.dumps({"served": self.served}))

    def saved(self, step: int) -> None:
        self.told.append(("saved", step))

    def has_state(self, step: int) -> bool:
        return self.folder is not None and (self.folder / f"step-{step}.json").exists()

    def restore(self, step: int) -> None:
        assert self.folder is not None
        self.served = json.loads((self.folder / f"step-{step}.json").read_text())["served"]


def config(sync_period: float | None = None, **args: object) -> TrainConfig:
    return TrainConfig(method="dpo", sync_period=sync_period, args={**QUIET, **args})


def trl_offline(
    pairs: Sequence[Mapping[str, object]], folder: Path, model: Qwen3ForCausalLM, **args: object
) -> DPOTrainer:
    """TRL's own trainer over the texts in their order, after its training. It computes the reference's sums itself."""

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, dataset: object = None) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    given = QUIET | {"activation_checkpointing": False} | args
    given.pop("gradient_checkpointing")
    with warnings.catch_warnings():  # its precomputation asks for a name that transformers gives up
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        trainer = InOrder(
            model=model,
            args=DPOConfig(
                output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
                precompute_ref_log_probs=True, **given,
            ),
            train_dataset=Dataset.from_list(list(pairs)),
            processing_class=tiny_tokenizer(),
        )  # fmt: skip
    trainer.train()
    return trainer
