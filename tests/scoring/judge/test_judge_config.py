from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from prefkit.errors import RecipeError
from prefkit.scoring.config import AspectJudgeScorer, JudgeScorer, PairwiseJudgeScorer, ScoreConfig
from prefkit.scoring.judge.identity import call_groups, judge_identity, judged_aspects

CONFIG: TypeAdapter[ScoreConfig] = TypeAdapter(ScoreConfig)
JUDGE = {"kind": "judge", "mode": "aspects", "endpoint": "http://localhost/v1", "model": "m", "revision": "r1"}
RUBRIC = """\
aspects:
  - {name: tone, question: "Is the tone right?", levels: {"1": No., "2": Yes.}}
  - {name: depth, question: "Is it deep?", levels: {"1": No., "2": Yes.}}
"""


def judge(**fields: object) -> JudgeScorer:
    config = CONFIG.validate_python(JUDGE | fields)
    assert isinstance(config, JudgeScorer)
    return config


def aspect_judge(**fields: object) -> AspectJudgeScorer:
    config = judge(**fields)
    assert isinstance(config, AspectJudgeScorer)
    return config


def test_aspects_of_a_shipped_rubric_are_known_before_any_file_is_read_and_survive_a_round_trip() -> None:
    config = judge()
    assert config.aspects == ("helpfulness", "honesty", "instruction_following", "truthfulness")
    assert judge(aspects=["honesty"]).aspects == ("honesty",)
    assert judge(mode="pairwise").aspects == ("overall",)
    assert CONFIG.validate_python(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"aspects": ["honest"]}, "did you mean 'honesty'"),
        ({"rubric": "mine.yaml"}, "list those to be judged"),
        ({"rubric": "ultrafedback"}, "did you mean 'ultrafeedback'"),
        ({"aspects": []}, "at least 1 item"),
        ({"aspects": "honesty"}, "valid tuple"),
        ({"rubric": 3}, "valid string"),
        ({"mode": "pairs"}, "expected tags: 'aspects', 'pairwise'"),
        ({"mode": "pairwise", "calls": "together"}, "Extra inputs"),
        ({"api_key": "sk-secret"}, "Extra inputs"),
    ],
)
def test_judge_that_cannot_be_obeyed_is_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        judge(**fields)


def test_judge_shown_the_answer_reads_it() -> None:
    assert judge(read=["answer"]).reads == {"answer"}
    assert judge().reads == set()


def test_orders_of_a_pairwise_judge_are_both_unless_one_will_do() -> None:
    both, one = judge(mode="pairwise"), judge(mode="pairwise", orders="ab")
    assert isinstance(both, PairwiseJudgeScorer)
    assert isinstance(one, PairwiseJudgeScorer)
    assert (both.planned_orders, one.planned_orders) == (("ab", "ba"), ("ab",))


def test_identity_is_what_a_verdict_means_and_not_where_how_often_or_for_which_aspects(tmp_path: Path) -> None:
    plain = judge_identity(judge(), tmp_path)
    price = {"input": 1, "output": 2}
    same = [
        {"endpoint": "http://other/v1"},
        {"repeats": 3},
        {"aspects": ["honesty"]},
        {"max_tokens": 9},
        {"price": price},
    ]
    other: list[dict[str, object]] = [
        {"model": "n"},
        {"revision": "r2"},
        {"rubric": "harmlessness"},
        {"temperature": 0.5},
        {"seed": 1},
        {"read": ["answer"]},
        {"calls": "together"},
        {"mode": "pairwise", "rubric": "ultrafeedback"},
    ]
    assert [fields for fields in same if judge_identity(judge(**fields), tmp_path) != plain] == []
    assert [fields for fields in other if judge_identity(judge(**fields), tmp_path) == plain] == []
    assert judge_identity(judge(mode="pairwise"), tmp_path) == judge_identity(
        judge(mode="pairwise", orders="ab"), tmp_path
    )


def test_identity_of_a_call_for_all_aspects_depends_on_which(tmp_path: Path) -> None:
    two, three = (judge(calls="together", aspects=["honesty", "helpfulness", "truthfulness"][:n]) for n in (2, 3))
    assert judge_identity(two, tmp_path) != judge_identity(three, tmp_path)


def test_identity_of_a_rubric_file_is_its_content_not_its_name(tmp_path: Path) -> None:
    for name, text in {"a.yaml": RUBRIC, "b.yaml": RUBRIC, "c.yaml": RUBRIC.replace("deep", "profound")}.items():
        (tmp_path / name).write_text(text)
    a, b, c = (
        judge_identity(judge(rubric=name, aspects=["tone"]), tmp_path) for name in ("a.yaml", "b.yaml", "c.yaml")
    )
    assert a == b != c


def test_groups_are_one_call_each_or_one_for_all(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RUBRIC)
    fields = {"rubric": "a.yaml", "aspects": ["depth", "tone"]}
    groups = [call_groups(aspect_judge(calls=calls, **fields), tmp_path) for calls in ("per_aspect", "together")]
    assert [[[a.name for a in group] for group in g] for g in groups] == [[["depth"], ["tone"]], [["depth", "tone"]]]


def test_aspect_that_a_rubric_file_lacks_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RUBRIC)
    with pytest.raises(
        RecipeError, match=r"names 'dept', expected an aspect of the rubric 'a\.yaml'; did you mean 'depth'"
    ):
        judged_aspects(judge(rubric="a.yaml", aspects=["dept"]), tmp_path)
