"""Sequence KL of real models, on a space of completions that is small enough to be counted out."""

import itertools
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from transformers import Qwen3ForCausalLM  # noqa: E402

from prefkit.pipeline.evaluation.evaluating import EvaluationAsked, evaluate  # noqa: E402
from prefkit.pipeline.evaluation.report import Evaluation  # noqa: E402
from prefkit.pipeline.evaluation.statistics import Divergence  # noqa: E402
from prefkit.pipeline.progress import Silent  # noqa: E402
from prefkit.pipeline.recipe import Recipe  # noqa: E402
from prefkit.records import COMPLETIONS  # noqa: E402
from prefkit.store.workspace import Workspace  # noqa: E402
from tests.pipeline.builders import write_problems  # noqa: E402
from tests.trainers.builders import SPECIAL, WORDS, tiny_model, tiny_tokenizer  # noqa: E402

END = 1
LONGEST = 2
PROMPTS = ("w1 w2", "w7")
DRAWS = 200


def model(seed: int) -> Qwen3ForCausalLM:
    """A model whose mind is made up: some words are much likelier than others."""
    made = tiny_model(tied=False, seed=seed).eval().requires_grad_(False)
    made.lm_head.weight *= 40
    return made


def workspace_in(folder: Path) -> Workspace:
    """Two policies that differ, and two prompts that are held out."""
    for name, seed in (("start", 0), ("other", 1)):
        model(seed).save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    write_problems(folder, [{"prompt": text, "split": "test"} for text in PROMPTS])
    return Workspace.create(folder)


def evaluated(workspace: Workspace, policy: str, n: int, **sampling: object) -> Evaluation:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "prompts": {"path": "problems.jsonl"},
            "policy": {"model": "start"},
            "sample": {"backend": "transformers", "device": "cpu", "max_new_tokens": LONGEST, **sampling},
            "score": [{"kind": "verifier", "name": "length"}],
            "select": {"kind": "correct_vs_incorrect"},
        }
    )
    folder = workspace.root.parent
    word = policy if policy == "start" else str(folder / policy)
    return evaluate(EvaluationAsked(recipe, folder, word, "start", n), workspace, Silent())


def divergence(found: Evaluation) -> Divergence:
    moved = found.overall.divergence["policy"]
    assert moved is not None
    return moved


@cache
def law(seed: int, prompt: str) -> dict[tuple[int, ...], float]:
    """The log-prob of every completion: one that ends at once, or of two tokens."""
    asked = [{"role": "user", "content": prompt}]
    text = tiny_tokenizer().apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    start = tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]
    first = next_logprobs(seed, [start])[0]
    others = [t for t in range(WORDS + len(SPECIAL)) if t != END]
    second = next_logprobs(seed, [[*start, t] for t in others])
    every: dict[tuple[int, ...], float] = {(END,): first[END]}
    for (place, t), u in itertools.product(enumerate(others), range(WORDS + len(SPECIAL))):
        every[(t, u)] = first[t] + second[place][u]
    return every


def next_logprobs(seed: int, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
    return model(seed)(input_ids=torch.tensor(tokens)).logits[:, -1].double().log_softmax(-1).tolist()


def test_estimates_are_the_means_over_what_was_sampled_and_near_the_divergence_of_all_there_is(tmp_path: Path):
    workspace = workspace_in(tmp_path)
    found = evaluated(workspace, "other", DRAWS)
    moved = divergence(found)
    laws = [(law(1, prompt), law(0, prompt)) for prompt in PROMPTS]
    assert all(abs(sum(map(math.exp, own.values())) - 1) < 1e-9 for pair in laws for own in pair)
    exact = sum(math.exp(p) * (p - other[y]) for own, other in laws for y, p in own.items()) / len(PROMPTS)
    length = sum(math.exp(p) * len(y) for own, _ in laws for y, p in own.items()) / len(PROMPTS)
    assert exact > 0.2
    # Two prompts are too few for an interval by prompt: the spread of the draws is worked out from the law itself.
    spread = [sum(math.exp(p) * (p - other[y]) ** 2 for y, p in own.items()) for own, other in laws]
    error = math.sqrt(sum(spread)) / len(PROMPTS) / math.sqrt(DRAWS)
    assert abs(moved.k1.value - exact) < 4 * error
    assert abs(moved.k3.value - exact) < 4 * error
    assert abs(moved.per_token.value - exact / length) < 4 * error / length
    assert moved.k1.rows == len(PROMPTS) * DRAWS
    rows = workspace.facts.read(COMPLETIONS, ["token_ids", "behavior_logprobs"], {"policy_id": found.policy.policy_id})
    said = [(tuple(ids), sum(logprobs)) for ids, logprobs in rows.iter_rows()]
    near = [min(abs(p - own[ids]) for own, _ in laws) for ids, p in said]
    assert max(near) < 1e-5
    assert moved.k1.value == pytest.approx(sum(p for _, p in said) / len(said) - mean_under_start(said), abs=1e-5)


def mean_under_start(said: Sequence[tuple[tuple[int, ...], float]]) -> float:
    """Of completions of either prompt: of which one, their own log-prob tells."""
    logps = []
    for ids, logp in said:
        _, prompt = min((abs(law(1, prompt)[ids] - logp), prompt) for prompt in PROMPTS)
        logps.append(law(0, prompt)[ids])
    return sum(logps) / len(logps)


@pytest.mark.parametrize("sampling", [{}, {"system": "w3 w4"}, {"temperature": 0.7, "top_p": 0.9}])
def test_policy_has_not_moved_from_itself(tmp_path: Path, sampling: dict[str, object]):
    found = evaluated(workspace_in(tmp_path), "start", 8, **sampling)
    moved = divergence(found)
    assert moved.k1.rows == 8 * len(PROMPTS)
    assert abs(moved.k1.value) < 1e-5
    assert 0 <= moved.k3.value < 1e-5


def test_second_evaluation_behind_a_system_message_scores_nothing(tmp_path: Path):
    workspace = workspace_in(tmp_path)
    first, again = (evaluated(workspace, "other", 4, system="w3 w4") for _ in range(2))
    assert (first.computed.logps, again.computed.logps) == (4 * len(PROMPTS), 0)
    assert divergence(again) == divergence(first)
