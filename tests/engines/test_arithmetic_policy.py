"""The recipe that ships with its policy: problems that are right, and a policy that is right about half of the time."""

import importlib.util
import json
import re
import sys
from pathlib import Path
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


def test_problems_have_solutions_whose_every_equation_holds(make_problems: ModuleType):
    for problem in make_problems.distinct("train", 300, seed=3):
        equations = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)\.", problem.solution)
        assert len(equations) == len(problem.steps)
        for left, operation, right, result in equations:
            values = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}
            assert values[operation] == int(result)
        assert problem.solution.endswith(f"{equations[-1][3]}. The answer is {problem.answer}.")
        assert problem.answer == int(equations[-1][3])


def test_problems_of_the_demo_are_those_of_its_generator_and_not_of_the_training_split(make_problems: ModuleType):
    demo = make_problems.distinct("demo", 400, seed=1)
    assert rows() == [{"question": p.question, "answer": str(p.answer)} for p in demo]
    trained = {p.question for p in make_problems.distinct("train", 3000, seed=0)}
    assert not trained & {p.question for p in demo}


def test_policy_of_the_recipe_is_right_about_half_of_the_time_and_wrong_in_many_ways():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    config = TransformersSampler(backend="transformers", n=4, max_new_tokens=48, device="cpu")
    asked = {content_id("draw", [row["question"], i]): row for row in rows()[:64] for i in range(config.n)}
    sampler = open_sampler(config, PolicyConfig(model=str(RECIPE / "policy")))
    requests = [SampleRequest(key, [{"role": "user", "content": row["question"]}]) for key, row in asked.items()]
    samples = [s for batch in sampler.sample(requests) for s in batch if isinstance(s, Sample)]
    assert len(samples) == 256
    assert sum(s.finish_reason is FinishReason.STOP for s in samples) > 240
    answers = [(asked[s.completion_id], re.findall(r"The answer is (\d+)\.$", s.text)) for s in samples]
    right = [found == [row["answer"]] for row, found in answers]
    # 256 draws of a policy that is right half of the time have a standard deviation of .03.
    assert 0.35 < sum(right) / len(right) < 0.65
    wrong = {(row["question"], *found) for (row, found), r in zip(answers, right, strict=True) if not r}
    assert len(wrong) > 64


def test_policy_of_the_recipe_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in policy_files(RECIPE / "policy")) < 8 * 2**20
