"""Rubrics: what a judge is asked, and what each level of its scale means.

A rubric is a YAML file with a list of aspects; each has a name, one question and a described scale without holes. Four
are shipped, others are files of yours, relative to the recipe. A rubric is known by its content, so moving or renaming
the file keeps the scores that were paid for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field, StringConstraints, ValidationError, model_validator

from prefkit.config import Config
from prefkit.errors import RecipeError, suggestion
from prefkit.identity import content_id
from prefkit.mistakes import told
from prefkit.yaml_file import refuse_unwritable, yaml_mapping

SHIPPED = Path(__file__).parent / "rubrics"
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Scale(NamedTuple):
    """The levels a judge can give: the whole numbers from lowest to highest."""

    lowest: int
    highest: int

    @property
    def levels(self) -> range:
        """Every level."""
        return range(self.lowest, self.highest + 1)


class Aspect(Config):
    """One thing that is judged."""

    identity: ClassVar[tuple[str, ...]] = ("name", "question", "levels", "best")

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)
    """Name of the score."""
    question: Sentence
    """What the judge is asked, in one sentence."""
    levels: dict[Annotated[str, Field(pattern=r"^[0-9]{1,2}$")], Sentence] = Field(min_length=2)
    """What each level means, in one sentence each; the numbers leave no hole."""
    best: int | None = None
    """The best level; the highest by default."""

    @model_validator(mode="after")
    def _levels_are_a_scale(self) -> "Aspect":
        numbers = sorted(int(level) for level in self.levels)
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        if twice:
            raise ValueError(f"aspect {self.name!r} describes level {twice[0]} twice, expected once: remove one")
        missing = [str(n) for n in self.scale.levels if n not in numbers]
        if missing:
            raise ValueError(
                f"aspect {self.name!r} has the levels {', '.join(map(str, numbers))}, expected no hole: "
                f"describe level {' and '.join(missing)}"
            )
        if self.best is not None and self.best not in numbers:
            raise ValueError(f"aspect {self.name!r} has best {self.best}, expected one of its levels")
        return self

    @property
    def scale(self) -> Scale:
        """From the lowest to the highest level."""
        numbers = [int(level) for level in self.levels]
        return Scale(min(numbers), max(numbers))

    def score(self, level: float) -> float:
        """The level as a score, where higher is better: the level itself when the highest is best.

        The best level always scores as the highest, and the level farthest from it as the lowest; the others lie
        between in proportion to their distance. With 3 the best of 1 to 5, the scores are 1, 3, 5, 3, 1.
        """
        lowest, highest = self.scale
        best = highest if self.best is None else self.best
        farthest = max(best - lowest, highest - best)
        return highest - abs(level - best) * (highest - lowest) / farthest


class Rubric(Config):
    """What a judge is asked about each completion."""

    about: str | None = None
    """For readers: what it is for and where it comes from."""
    aspects: tuple[Aspect, ...] = Field(min_length=1)
    """What is judged, one score each."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Rubric":
        names = [aspect.name.lower() for aspect in self.aspects]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"rubric has the aspect {twice[0]!r} twice, expected unique names: rename one")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the aspects, in order."""
        return tuple(aspect.name for aspect in self.aspects)

    @property
    def digest(self) -> str:
        """32 hex digits over what a judge reads and how its levels become scores."""
        return content_id("rubric", [aspect.identity_values() for aspect in self.aspects]).hex()

    def chosen(self, names: Sequence[str], called: str) -> tuple[Aspect, ...]:
        """The aspects of these names, in the order of the names; `called` is what people call the rubric.

        Raises RecipeError for an aspect it lacks.
        """
        aspects = {aspect.name: aspect for aspect in self.aspects}
        for name in names:
            if name not in aspects:
                near = suggestion(name, list(aspects))
                raise RecipeError(f"aspects names {name!r}, expected an aspect of the rubric {called!r}{near}")
        return tuple(aspects[name] for name in names)


def is_file(rubric: str) -> bool:
    """Whether a recipe's `rubric` is the path of a file, not the name of a shipped one."""
    return rubric.endswith((".yaml", ".yml"))


def shipped_rubric(name: str) -> Rubric:
    """A rubric of this package. Raises RecipeError for a name it does not have."""
    known = [path.stem for path in SHIPPED.glob("*.yaml")]
    if name not in known:
        near = suggestion(name, known)
        raise RecipeError(f"rubric is {name!r}, expected a shipped rubric or the path of a .yaml file{near}")
    return read_rubric(SHIPPED / f"{name}.yaml")


def rubric_of(rubric: str, folder: Path) -> Rubric:
    """What a recipe in `folder` names under `rubric`. Raises RecipeError in one line."""
    return read_rubric(folder / rubric) if is_file(rubric) else shipped_rubric(rubric)


def read_rubric(path: Path) -> Rubric:
    """The rubric in a file. Raises RecipeError in one line for everything that can be wrong with it."""
    data = yaml_mapping(path, "rubric", "a list of aspects")
    refuse_unwritable(data, str(path))
    try:
        return Rubric.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {told(error, data, Rubric, 'rubric')}") from None
