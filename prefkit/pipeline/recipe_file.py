"""Recipe files: YAML, overrides from the command line, and every mistake told in one line.

text -> plain data -> overrides -> literal keys refused -> validated Recipe
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from prefkit.errors import RecipeError
from prefkit.mistakes import told
from prefkit.pipeline.recipe import Recipe
from prefkit.yaml_file import kind_of, parsed, refuse_unwritable, shown_text, yaml_mapping

ENDLESS = ("train", "sync_period")
"""The one place where infinity is a value: never synchronise."""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The validated recipe of a file, with overrides such as `sample.n=12` applied in order.

    Raises RecipeError in one line for everything that can be wrong with it.
    """
    data = yaml_mapping(path, "recipe", "name, prompts, sample, score and select")
    for override in overrides:
        override_value(data, override)
    refuse_unwritable(data, str(path), ENDLESS)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {told(error, data, Recipe, 'recipe')}") from None


def override_value(data: dict[str, object], override: str) -> None:
    """Sets the value at a dotted path, as in `select.per_prompt=2` or `score.0.repeats=3`; the value is YAML.

    Blocks that are missing on the way are made: whether they belong in a recipe is for its validation to say.
    """
    path, equals, text = override.partition("=")
    if not equals or not all(path.split(".")):
        raise RecipeError(
            f"--set got {shown_text(override)}, expected KEY=VALUE with a dotted key, as in `--set sample.n=12`"
        )
    value = parsed(text, f"--set {path}")
    *parents, last = path.split(".")
    place: object = data
    for depth, part in enumerate(parents):
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = _inside(place, part, parents[:depth])[_key(place, part)]
    _inside(place, last, parents)[_key(place, last)] = value


def _inside(place: object, part: str, above: Sequence[str]) -> "dict[str | int, object]":
    """The container `place`, when `part` can be set in it."""
    where = ".".join(above)
    if isinstance(place, list):
        if not (part.isascii() and part.isdigit() and int(part) < len(place)):
            last = len(place) - 1
            raise RecipeError(
                f"--set {where}.{part} does not exist: {where} is a list, expected an index from 0 to {last}"
            )
    elif not isinstance(place, dict):
        raise RecipeError(
            f"--set {where}.{part} does not exist: {where} is a {kind_of(place)}, expected a mapping or list"
        )
    return cast("dict[str | int, object]", place)


def _key(place: object, part: str) -> str | int:
    return int(part) if isinstance(place, list) else part
