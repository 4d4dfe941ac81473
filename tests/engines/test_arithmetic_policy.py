"""The recipe that ships with its policy: problems that are right, and a policy that is right about half of the time."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from prefkit.identity import content_id
from prefkit.sampling.config import PolicyConfig, TransformersSampler
from prefkit.sampling.policy import policy_files
from prefkit.sampling.protocol import FinishReason, Sample, SampleRequest
from prefkit.sampling.registry import open_sampler

RECIPE = Path(__file__).parents[2] / "recipes" / "arithmetic"


@pytest.fixture(scope="module")
def make_problems() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_problems", RECIPE / "make_problems.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "make_problems", module)
        spec.loader.exec_module(module)
    return module


def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in (RECIPE / "problems.jsonl").read_text().splitlines()]


def draws(prompts: list[dict[str, str]], n: int, seed: int) -> Iterator[tuple[dict[str, str], Sample]]:
    """The prompt and the sample of `n` draws of every prompt from the policy of the recipe."""
    config = TransformersSampler(backend="transformers", n=n, max_new_tokens=64, seed=seed, device="cpu")
    asked = {content_id("draw", [row["question"], i]): row for row in prompts for i in range(n)}
    sampler = open_sampler(config, PolicyConfig(model=str(RECIPE / "policy")))
    requests = [SampleRequest(key, [{"role": "user", "content": row["question"]}]) for key, row in asked.items()]
    return ((asked[s.completion_id], s) for batch in sampler.sample(requests) for s in batch if isinstance(s, Sample))


def test_problems_have_solutions_whose_every_equation_holds(make_problems: ModuleType):
    random = Random(3)
    for problem in make_problems.distinct("train", 300, seed=3):
        solution = problem.solution(random)
        equations = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)\.", solution)
        assert len(equations) == len(problem.steps)
        for left, operation, right, result in equations:
            values = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}
            assert values[operation] == int(result)
        assert solution.endswith(f"answer is {problem.answer}.")
        assert problem.answer == int(equations[-1][3])


def test_problems_have_solutions_whose_wording_varies(make_problems: ModuleType):
    problem, random = make_problems.Problem("What is 2 * 3 + 4?", ("2 * 3 = 6", "6 + 4 = 10"), 10), Random(0)
    solutions = {problem.solution(random) for _ in range(200)}
    # 200 draws from 12 openings, 6 links and 8 endings: about 35 pairs of draws agree.
    assert len(solutions) > 150
    assert all(re.search(r"2 \* 3 = 6\. .*6 \+ 4 = 10\. .*answer is 10\.$", s) for s in solutions)


def test_problems_have_solutions_from_which_the_verifier_reads_the_answer(make_problems: ModuleType):
    math_verify = pytest.importorskip("math_verify")
    for ending, answer in product(make_problems.ENDINGS, (0, 1, 10, 42, 243)):
        read = math_verify.parse(f"Let us see. {answer + 7} - 7 = {answer}. {ending.format(answer=answer)}")
        assert math_verify.verify(math_verify.parse(str(answer)), read)
        assert not math_verify.verify(math_verify.parse(str(answer + 7)), read)


def test_problems_of_the_demo_are_those_of_its_generator_and_not_of_the_training_split(make_problems: ModuleType):
    demo = make_problems.distinct("demo", 400, seed=1)
    assert rows() == [{"question": p.question, "answer": str(p.answer)} for p in demo]
    trained = {p.question for p in make_problems.distinct("train", 3000, seed=0)}
    assert not trained & {p.question for p in demo}


def test_policy_of_the_recipe_is_right_about_half_of_the_time_and_wrong_in_many_ways():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    samples = list(draws(rows()[:64], n=4, seed=0))
    assert len(samples) == 256
    assert sum(s.finish_reason is FinishReason.STOP for _, s in samples) > 240
    assert all(s.text.isascii() for _, s in samples)
    answers = [(row, re.findall(r"answer is (\d+)\.$", s.text)) for row, s in samples]
    right = [found == [row["answer"]] for row, found in answers]
    # 256 draws of a policy that is right half of the time have a standard deviation of .03.
    assert 0.35 < sum(right) / len(right) < 0.65
    wrong = {(row["question"], *found) for (row, found), r in zip(answers, right, strict=True) if not r}
    assert len(wrong) > 64


def test_policy_of_the_recipe_writes_other_texts_with_another_seed_and_another_index():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    first, second = (
        {s.completion_id: (row["question"], s.text) for row, s in draws(rows()[:32], 4, seed)} for seed in (0, 1)
    )
    assert sum(first[key] != second[key] for key in first) >= 0.9 * len(first)
    assert len(set(first.values())) >= 0.9 * len(first)


def test_policy_of_the_recipe_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in policy_files(RECIPE / "policy")) < 8 * 2**20
