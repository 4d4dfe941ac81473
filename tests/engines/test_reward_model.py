"""Scores of a random sequence classifier of 100,000 parameters that reads with the arithmetic policy's tokenizer."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import (  # noqa: E402
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from prefkit.engines.chat import Chat  # noqa: E402
from prefkit.engines.reward_model import RewardModel, ending_of_none  # noqa: E402
from prefkit.errors import RecipeError, SourceError  # noqa: E402
from prefkit.sampling.protocol import Message  # noqa: E402
from prefkit.scoring.config import RewardModelScorer  # noqa: E402
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest  # noqa: E402
from prefkit.scoring.registry import open_scorer, scorer_id  # noqa: E402

TOKENIZER = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CONTEXT = 192
END_ID = 1
CLOSE = 1e-5


def architecture(**settings: object) -> Qwen3Config:
    return Qwen3Config(
        **{
            "vocab_size": 464, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": CONTEXT,
            "num_labels": 1, "pad_token_id": 0, "eos_token_id": END_ID, "initializer_range": 0.2, **settings,
        }
    )  # fmt: skip


def classifier(seed: int = 0, **settings: object) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForSequenceClassification(architecture(**settings)).eval()


def encoder() -> PreTrainedModel:
    """A classifier that reads in both directions, so that padding would show if it were not masked."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=464, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=CONTEXT, num_labels=1, pad_token_id=0, initializer_range=0.3,
        )  # fmt: skip
        return BertForSequenceClassification(config).eval()


def written(folder: Path, model: PreTrainedModel | None = None) -> Path:
    """A reward model's folder."""
    (model or classifier()).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / name, folder)
    return folder


def config(folder: Path | str = "unused", **settings: object) -> RewardModelScorer:
    return RewardModelScorer.model_validate({"kind": "reward_model", "model": str(folder), "device": "cpu", **settings})


def chat() -> Chat:
    return Chat(AutoTokenizer.from_pretrained(TOKENIZER))


def reward_model(model: PreTrainedModel | None = None, **settings: object) -> RewardModel:
    return RewardModel(config(**settings), model or classifier(), chat())


def request(number: int, numbers: int | None = None) -> ScoreRequest:
    """A sum with its result: of 1 to 13 numbers, as the request's number goes."""
    random = Random(number)
    parts = [str(random.randrange(90)) for _ in range(numbers or 1 + number * 5 % 13)]
    prompt: list[Message] = [{"role": "user", "content": f"What is {' + '.join(parts)}?"}]
    completion = f"{' + '.join(parts)} = {number}."
    return ScoreRequest(number.to_bytes(16, "little"), "reward_model", 0, prompt, completion, {})


def outcomes(model: RewardModel, requests: list[ScoreRequest]) -> list[Score | ScoreFailure]:
    return [outcome for batch in model.score(requests) for outcome in batch]


def scores(model: RewardModel, requests: list[ScoreRequest]) -> dict[bytes, float]:
    """Scores by completion id, when none failed and none came twice."""
    found = {o.completion_id: o.score for o in outcomes(model, requests) if isinstance(o, Score)}
    assert len(found) == len(requests)
    return found


def plain(model: PreTrainedModel, requests: list[ScoreRequest]) -> dict[bytes, float]:
    """What transformers alone says of each text by itself: no padding, no mask, no batch."""
    tokenizer, found = AutoTokenizer.from_pretrained(TOKENIZER), {}
    for r in requests:
        said = [*r.prompt, {"role": "assistant", "content": r.completion}]
        text = tokenizer.apply_chat_template(said, tokenize=False)
        with torch.no_grad():
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            found[r.completion_id] = model(ids).logits.item()
    return found


# ------------------------------------------------------------------------------------------------ row independence


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "padding_of_its_own": classifier,
    "no_padding": lambda: classifier(pad_token_id=None),
    "end_of_turn_as_padding": lambda: classifier(pad_token_id=END_ID),
    "encoder": encoder,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_score_is_that_of_transformers_alone_shuffled_rebatched_padded_and_in_part(
    make: Callable[[], PreTrainedModel],
):
    requests = [request(i) for i in range(120)]
    expected, model = plain(make(), requests), make()

    assert scores(reward_model(model), requests) == pytest.approx(expected, abs=CLOSE)
    shuffled = Random(1).sample(requests, len(requests))
    assert scores(reward_model(model, batch_size=7), shuffled) == pytest.approx(expected, abs=CLOSE)
    assert scores(reward_model(model, batch_tokens=300), requests) == pytest.approx(expected, abs=CLOSE)
    assert scores(reward_model(model, batch_tokens=1), requests) == pytest.approx(expected, abs=CLOSE)
    one_long = [*requests[:40], request(200, numbers=20)]
    mixed = scores(reward_model(model), one_long)
    assert {r.completion_id: mixed[r.completion_id] for r in requests[:40]} == pytest.approx(
        {r.completion_id: expected[r.completion_id] for r in requests[:40]}, abs=CLOSE
    )
    # A model that gave every text the same score would pass all of the above.
    assert len({round(s, 3) for s in expected.values()}) > 100
    assert max(expected.values()) - min(expected.values()) > 1


def test_ending_of_none_is_a_token_that_may_stand_inside_but_ends_no_text():
    assert ending_of_none([[5, 0], [0, 1], [2, 3]]) == 2


def test_score_in_bfloat16_is_near_that_in_float32(tmp_path: Path):
    requests = [request(i) for i in range(30)]
    folder = written(tmp_path)
    exact, rough = (scores(opened(config(folder, dtype=d)), requests) for d in ("float32", "bfloat16"))
    assert rough == pytest.approx(exact, abs=0.3)
    assert rough != pytest.approx(exact, abs=CLOSE)


# ------------------------------------------------------------------------------------------------------- batches


def test_score_yields_every_batch_as_it_is_done_longest_texts_first():
    requests = [request(i) for i in range(30)]
    results = reward_model(batch_size=8).score(requests)
    first = next(results)
    assert len(first) == 8
    longest = max(requests, key=lambda r: len(chat().conversation_text(r.prompt) + r.completion))
    assert longest.completion_id in {o.completion_id for o in first}


# ------------------------------------------------------------------------------------------------------ failures


def test_text_that_is_too_long_fails_and_is_not_cut_and_its_siblings_are_scored():
    fits, too_long = request(1), request(2, numbers=60)
    found = outcomes(reward_model(), [too_long, fits])
    failures = {o.completion_id: o.kind for o in found if isinstance(o, ScoreFailure)}
    assert failures == {too_long.completion_id: ScoreFailureKind.TOO_LONG}
    assert [o.completion_id for o in found if isinstance(o, Score)] == [fits.completion_id]


def test_text_of_exactly_the_context_is_scored_and_one_token_more_is_not():
    length = len(chat().token_ids([chat().conversation_text([*request(1).prompt, answer(request(1).completion)])])[0])
    [exact] = outcomes(reward_model(classifier(max_position_embeddings=length)), [request(1)])
    [beyond] = outcomes(reward_model(classifier(max_position_embeddings=length - 1)), [request(1)])
    assert isinstance(exact, Score)
    assert isinstance(beyond, ScoreFailure)
    assert beyond.detail == f"{length} tokens, expected at most {length - 1}"


def answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def test_conversation_that_the_template_refuses_fails_with_its_reason_and_its_siblings_are_scored():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    model = RewardModel(config(), classifier(), Chat(tokenizer))
    refused = ScoreRequest(bytes(16), "reward_model", 0, [{"role": "tool", "content": "?"}], "1", {})
    empty = ScoreRequest(b"e" * 16, "reward_model", 0, [{"role": "user", "content": ""}], "", {})
    found = {o.completion_id: o for o in outcomes(model, [refused, empty, request(1)])}
    for one, why in ((refused, "no tools"), (empty, "empty text")):
        outcome = found[one.completion_id]
        assert isinstance(outcome, ScoreFailure)
        assert outcome.kind is ScoreFailureKind.REFUSED
        assert why in str(outcome.detail)
    assert isinstance(found[request(1).completion_id], Score)


def test_model_with_broken_weights_fails_every_text_instead_of_scoring_it():
    model = classifier()
    with torch.no_grad():
        model.score.weight.fill_(torch.nan)
    found = outcomes(reward_model(model), [request(0), request(1)])
    assert [o.kind for o in found if isinstance(o, ScoreFailure)] == [ScoreFailureKind.UNPARSABLE] * 2


# ------------------------------------------------------------------------------------------------------- opening


def opened(given: RewardModelScorer, folder: Path = Path()) -> RewardModel:
    scorer = open_scorer(given, folder)
    assert isinstance(scorer, RewardModel)
    return scorer


def test_open_scorer_reads_a_folder_beside_the_recipe(tmp_path: Path):
    written(tmp_path / "judge")
    requests = [request(i) for i in range(5)]
    found = scores(opened(config("judge"), tmp_path), requests)
    assert found == pytest.approx(plain(classifier(), requests), abs=CLOSE)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: Qwen3ForCausalLM(architecture()), "is a Qwen3ForCausalLM that is no complete classifier"),
        (lambda: classifier(num_labels=3), "has 3 outputs, expected a sequence classifier with one output"),
    ],
    ids=["no_classifier", "three_outputs"],
)
def test_open_scorer_refuses_what_is_no_reward_model_in_one_line(tmp_path: Path, model, told: str):
    written(tmp_path, model())
    with pytest.raises(SourceError, match=told) as caught:
        opened(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_open_scorer_refuses_a_model_without_a_chat_template(tmp_path: Path):
    written(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(SourceError, match=r"reward model .* has no chat template"):
        scorer_id(config(tmp_path), Path())


def test_open_scorer_refuses_damaged_weights_and_devices_that_are_not_there_in_one_line(tmp_path: Path):
    written(tmp_path)
    with pytest.raises(RecipeError, match=r"score\.device is 'cuda:99'"):
        opened(config(tmp_path, device="cuda:99"))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SourceError, match=r"reward model .* cannot be loaded") as caught:
        opened(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_open_scorer_refuses_a_tokenizer_larger_than_the_model(tmp_path: Path):
    written(tmp_path, classifier(vocab_size=300))
    with pytest.raises(SourceError, match="464 tokens, expected at most the 300"):
        opened(config(tmp_path))


# ------------------------------------------------------------------------------------------------------ identity


def test_scorer_id_is_that_of_the_weights_and_not_of_the_path_or_the_speed(tmp_path: Path):
    first, second = written(tmp_path / "a"), written(tmp_path / "elsewhere" / "b")
    base = scorer_id(config(first), Path())
    assert scorer_id(config(second, batch_tokens=77, batch_size=3, device="auto", aspect="other"), Path()) == base
    assert scorer_id(config("b"), tmp_path / "elsewhere") == base
    assert scorer_id(config(first, dtype="bfloat16"), Path()) != base


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "config.json"])
def test_scorer_id_changes_with_every_file_that_decides_a_score(tmp_path: Path, name: str):
    written(tmp_path)
    base = scorer_id(config(tmp_path), Path())
    with (tmp_path / name).open("a") as file:
        file.write(" ")
    assert scorer_id(config(tmp_path), Path()) != base


def test_scorer_id_changes_when_the_weights_under_the_path_change_and_a_planned_build_is_refused(tmp_path: Path):
    written(tmp_path / "model")
    cache = tmp_path / "digests.json"
    given = config(tmp_path / "model")
    before = scorer_id(given, Path(), cache)
    written(tmp_path / "model", classifier(seed=1))
    assert scorer_id(given, Path(), cache) != before
    with pytest.raises(RecipeError, match="changed since this build was planned"):
        open_scorer(given, Path(), planned=before, cache=cache)
