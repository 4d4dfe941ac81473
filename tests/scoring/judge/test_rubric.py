from pathlib import Path

import pytest

from prefkit.errors import RecipeError
from prefkit.scoring.judge.rubric import SHIPPED, Rubric, read_rubric, rubric_of, shipped_rubric
from tests.scoring.judge.builders import aspect

MINE = """\
aspects:
  - name: tone
    question: Is the tone right?
    levels: {"1": It is rude., "2": It is cold., "3": It is kind.}
"""


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [path.stem for path in SHIPPED.glob("*.yaml")])
def test_shipped_rubric_describes_five_levels_of_every_aspect(name: str) -> None:
    assert {aspect.scale for aspect in shipped_rubric(name).aspects} == {(1, 5)}


def test_shipped_rubrics_judge_the_six_aspects_and_the_whole() -> None:
    names = [name for path in SHIPPED.glob("*.yaml") for name in shipped_rubric(path.stem).names]
    ultrafeedback = {"helpfulness", "honesty", "instruction_following", "truthfulness"}
    assert sorted(names) == sorted(ultrafeedback | {"harmlessness", "verbosity", "overall"})


def test_rubric_of_a_path_is_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "rubrics").mkdir()
    written(tmp_path / "rubrics", MINE)
    assert rubric_of("rubrics/mine.yaml", tmp_path).names == ("tone",)


@pytest.mark.parametrize(
    ("best", "scores"),
    [(None, [1, 2, 3, 4, 5]), (1, [5, 4, 3, 2, 1]), (3, [1, 3, 5, 3, 1]), (4, [1, 7 / 3, 11 / 3, 5, 11 / 3])],
)
def test_score_falls_off_evenly_from_the_best_level(best: int | None, scores: list[float]) -> None:
    judged = aspect(best=best)
    assert [judged.score(level) for level in judged.scale.levels] == pytest.approx(scores)


def test_digest_depends_on_what_is_asked_and_not_on_the_file(tmp_path: Path) -> None:
    original = read_rubric(written(tmp_path, MINE)).digest
    same = [written(tmp_path, "about: Mine.\n" + MINE, "b.yaml"), written(tmp_path, "# A comment\n" + MINE, "c.yaml")]
    other = [
        MINE.replace("kind", "warm"),
        MINE.replace("right", "good"),
        MINE.replace("tone", "style"),
        MINE + "    best: 2",
    ]
    assert {read_rubric(path).digest for path in same} == {original}
    assert original not in {read_rubric(written(tmp_path, text, "d.yaml")).digest for text in other}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MINE.replace('"2"', '"4"'), "has the levels 1, 3, 4, expected no hole: describe level 2"),
        (MINE.replace('"2"', '"1"'), "'1' is given in lines 4 and 4, expected once"),
        (MINE.replace('"2"', '"01"'), "describes level 1 twice"),
        (MINE.replace('"2"', "2"), "a key in line 4 is no text, expected a name: put it in quotes"),
        (MINE.replace('"2"', '"two"'), "expected text that matches"),
        (MINE.replace("It is cold.", "' '"), "at least 1 character"),
        (MINE + "    best: 4\n", "has best 4, expected one of its levels"),
        (MINE + MINE.removeprefix("aspects:\n"), "the aspect 'tone' twice"),
        (MINE.replace("question", "questoin"), "did you mean 'question'"),
        (MINE.replace("tone", "the tone"), "expected text that matches"),
        ("aspects: []", "aspects has no items, expected at least 1"),
        ("about: nothing", "aspects is missing"),
        ("", "is empty, expected a mapping with a list of aspects"),
        ("- tone", "is a list, expected a mapping"),
        ("aspects: [", "is no valid YAML in line 1"),
    ],
)
def test_rubric_that_is_wrong_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        read_rubric(written(tmp_path, text))
    assert told in str(error.value)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_rubric_that_does_not_exist_is_told_with_what_may_be_meant(tmp_path: Path) -> None:
    written(tmp_path, MINE)
    with pytest.raises(RecipeError, match=r"mime\.yaml does not exist.*did you mean 'mine\.yaml'"):
        rubric_of("mime.yaml", tmp_path)
    with pytest.raises(RecipeError, match=r"'harmlesness', expected a shipped rubric.*did you mean 'harmlessness'"):
        rubric_of("harmlesness", tmp_path)


def test_chosen_aspects_come_in_the_order_they_are_named() -> None:
    rubric = Rubric(aspects=(aspect("tone"), aspect("depth")))
    assert [chosen.name for chosen in rubric.chosen(("depth", "tone"), "mine")] == ["depth", "tone"]
    with pytest.raises(
        RecipeError, match="names 'dept', expected an aspect of the rubric 'mine'; did you mean 'depth'"
    ):
        rubric.chosen(("dept",), "mine")
