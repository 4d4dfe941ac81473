"""The tokens of a text against those that TRL's DPOTrainer prepares and collates from the same rows."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase  # noqa: E402

from prefkit.engines.chat import Chat  # noqa: E402
from prefkit.engines.logprobs import TransformersReference  # noqa: E402
from prefkit.errors import RecipeError, SourceError  # noqa: E402
from prefkit.sampling.protocol import Message  # noqa: E402
from prefkit.shift.protocol import Text, Trained  # noqa: E402

# TRL uses names that transformers has changed.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated:FutureWarning")

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
MAX_LENGTH = 40
TURN = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
OPENING = "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
TEMPLATES = {
    "own": None,
    "text_after_the_end": TURN.replace("<|end|>", r"<|end|>\n") + OPENING,
    "longer_opening": TURN + OPENING.replace("<|assistant|>", "<|assistant|>So: "),
    "no_ending": TURN.replace("<|end|>", "") + OPENING,
    "trimmed": TURN.replace("m['content']", "m['content'] | trim") + OPENING,
}
Pair = dict[str, list[Message]]


def said(*contents: str, system: str | None = None, first: str = "user") -> list[Message]:
    """Turns by turns, `first` speaking first."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    turns: list[Message] = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    return opening + turns


def pair(prompt: list[Message], chosen: str, rejected: str) -> Pair:
    return {"prompt": prompt, "chosen": said(chosen, first="assistant"), "rejected": said(rejected, first="assistant")}


PAIRS = [
    pair(said("What is 3 + 4?"), "3 + 4 = 7. The answer is 7.", "8"),
    pair(said("What is 3 + 4?", "7", "And 2 more?"), "7 + 2 = 9. The answer is 9.", "10 is the answer."),
    pair(said("What is 5 * 5?", system="Be brief."), "25", ""),
    pair(said("What is 8 - 3?"), "8 - 3 = 5. " * 12, "8 - 3 = 6. The answer is 6."),
    pair(said("How many are " + "12 + 30 + " * 20 + "1?"), "681", "12"),
    pair(said("Ünïcode 🙂 and  two  spaces"), " leading space", "trailing space "),
]
"""The fourth has a completion that MAX_LENGTH cuts, the fifth a prompt that fills it."""


def tokenizer(template: str) -> PreTrainedTokenizerBase:
    loaded = AutoTokenizer.from_pretrained(POLICY)
    loaded.chat_template = TEMPLATES[template] or loaded.chat_template
    return cast(PreTrainedTokenizerBase, loaded)


def reference(template: str = "own") -> TransformersReference:
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    return TransformersReference(model, Chat(tokenizer(template)), "hf:policy", "reference 'policy'")


def trainer(folder: Path, template: str, max_length: int | None = MAX_LENGTH, **settings: object) -> "trl.DPOTrainer":
    """TRL's, with its default truncation mode: the beginning of a text is kept, the only mode it does not deprecate."""
    config = trl.DPOConfig(
        output_dir=str(folder), max_length=max_length, report_to=[], use_cpu=True, bf16=False, **settings
    )
    assert config.truncation_mode == "keep_start"
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
    return trl.DPOTrainer(
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32),
        args=config,
        train_dataset=datasets.Dataset.from_list(PAIRS),
        processing_class=tokenizer(template),
    )


def texts(pairs: list[Pair], side: str) -> list[Text]:
    return [Text(bytes([i]), row["prompt"], row[side]) for i, row in enumerate(pairs)]


def one(contents: str, **known: list[int]) -> Text:
    return Text(b"\x07" * 16, said("What is 3 + 4?"), said(contents, first="assistant"), **known)


@pytest.mark.parametrize(
    ("template", "max_length", "pairs"),
    [*((name, MAX_LENGTH, 5) for name in TEMPLATES), ("own", None, 6), ("own", 25, 5), ("own", 18, 2)],
)
def test_trained_tokens_are_those_that_trl_prepares_and_collates(
    template: str, max_length: int | None, pairs: int, tmp_path: Path
):
    trl_trainer, ours = trainer(tmp_path, template, max_length), reference(template)
    prepared = list(trl_trainer.train_dataset)
    batch = trl_trainer.data_collator(prepared)
    for place, side in enumerate(("chosen", "rejected")):
        trained, whole = ours.trained(texts(PAIRS, side), max_length), ours.trained(texts(PAIRS, side), None)
        assert [a.tokens + a.cut for a in trained] == [b.tokens for b in whole]
        # TRL drops a pair whose prompt fills the length.
        kept = [row for row in trained if max_length is None or len(row.prompt_ids) < max_length]
        assert len(kept) == len(prepared) == pairs
        rows = slice(place * len(kept), (place + 1) * len(kept))
        shown, completion = batch["attention_mask"][rows].bool(), batch["completion_mask"][rows].bool()
        for row, ids, mask, is_completion in zip(kept, batch["input_ids"][rows], shown, completion, strict=True):
            assert [*row.prompt_ids, *row.completion_ids] == ids[mask].tolist()
            assert list(row.completion_ids) == ids[is_completion].tolist()
        cut = [len(row[f"{side}_ids"]) - kept_row.tokens for row, kept_row in zip(prepared, kept, strict=True)]
        assert [row.cut for row in kept] == cut


@pytest.mark.parametrize(("template", "ends"), [("own", True), ("no_ending", False)])
def test_completion_ends_as_the_template_ends_a_turn_unless_it_is_cut(template: str, ends: bool):
    model, end = reference(template), tokenizer(template).eos_token_id
    [row] = model.trained([one("7")], None)
    assert (row.completion_ids[-1] == end) == ends
    assert end not in row.completion_ids[:-1]
    [cut] = model.trained([one("7 is the answer.")], len(row.prompt_ids) + 2)
    assert end not in cut.completion_ids


def test_sums_of_logprobs_are_the_ones_trl_precomputes(tmp_path: Path):
    trl_trainer, ours = trainer(tmp_path, "own", precompute_ref_log_probs=True), reference()
    for side in ("chosen", "rejected"):
        given = [row for row in ours.trained(texts(PAIRS, side), MAX_LENGTH) if row.tokens]
        sums = {outcome.id: sum(outcome.logprobs) for batch in ours.logprobs(given) for outcome in batch}
        expected = trl_trainer.train_dataset[f"ref_{side}_logps"]
        assert [sums[row.id] for row in given] == pytest.approx(list(expected), abs=1e-4)


def test_prompt_that_fills_the_longest_length_leaves_no_token():
    row = reference().trained([Text(b"", PAIRS[4]["prompt"], PAIRS[4]["chosen"])], MAX_LENGTH)[0]
    assert (row.tokens, len(row.prompt_ids)) == (0, MAX_LENGTH)
    assert row.cut > 0


def test_only_cut_completions_change_with_the_longest_length():
    model, given = reference(), texts(PAIRS[:4], "chosen")
    short, long = model.trained(given, MAX_LENGTH), model.trained(given, 200)
    assert [a == b for a, b in zip(short, long, strict=True)] == [True, True, True, False]


def test_known_token_ids_are_used_as_they_are_even_where_the_tokenizer_would_write_others():
    model, chat = reference(), Chat(tokenizer("own"))
    [merged] = chat.token_ids(["The answer is 7."])
    single = [token for [token] in chat.token_ids(list("The answer is 7."))]
    assert len(single) > len(merged)
    [row] = model.trained([one("The answer is 7.", token_ids=single)], None)
    assert row == Trained(row.id, chat.prompt_ids(said("What is 3 + 4?")), single, cut=0)
    [cut] = model.trained([one("The answer is 7.", token_ids=single)], len(row.prompt_ids) + 3)
    assert (cut.completion_ids, cut.cut) == (single[:3], len(single) - 3)


def test_known_token_ids_of_another_tokenizer_give_way_to_those_of_the_text():
    model = reference()
    [foreign] = Chat(tokenizer("own")).token_ids(["Something else"])
    [text, *rows] = model.trained([one("7"), one("7", token_ids=foreign), one("7", token_ids=[10**6])], None)
    assert not text.retokenised
    assert rows == [replace(text, retokenised=True)] * 2


def test_text_longer_than_the_model_can_read_is_refused_unless_it_is_cut():
    model, given = reference(), [one("7"), one("3 + 4 = 7. " * 100)]
    with pytest.raises(RecipeError, match=r"'policy' reads at most 256 tokens, got 1 of 2 texts.*max_length to 256"):
        model.trained(given, 1024)
    assert model.trained(given, 256)[1].cut > 0


def test_conversation_that_the_template_refuses_is_told_with_its_id(monkeypatch: pytest.MonkeyPatch):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURN
    monkeypatch.setitem(TEMPLATES, "refusing", refusing)
    with pytest.raises(SourceError, match=r"refuses 1 of 6 conversations, the first is 02: no system role"):
        reference("refusing").trained(texts(PAIRS, "chosen"), None)


def test_template_without_a_common_beginning_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TEMPLATES, "parted", "{% if add_generation_prompt %}<|assistant|>{% endif %}" + TURN)
    with pytest.raises(SourceError, match="no common beginning"):
        reference("parted").trained([one("7")], None)
