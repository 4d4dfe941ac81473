from enum import StrEnum
from typing import Annotated, Literal

import pytest
from pydantic import Field

from prefkit.config import Config
from prefkit.pipeline.recipe import Recipe
from recipe_reference import TARGET, models_in, reference, type_in_words


def test_recipe_reference_is_current() -> None:
    assert TARGET.read_text() == reference(), "docs/recipe.md is stale: run `make docs`"


def test_recipe_reference_names_every_block() -> None:
    text = reference()
    assert [name for name in Recipe.model_fields if f"`{name}`" not in text] == []


class Red(Config):
    """Red."""

    kind: Literal["red"]


class Blue(Config):
    """Blue."""

    kind: Literal["blue"]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "whole number or null"),
        (Literal["exact", "off"], "`exact` or `off`"),
        (Colour, "`red` or `blue`"),
        (tuple[str, ...], "list of text"),
        (dict[str, bool | int | float], "map from text to true or false, whole number or number"),
        (Annotated[float, Field(gt=0)], "number"),
        (Red | None, "block"),
        (tuple[Annotated[Red | Blue, Field(discriminator="kind")], ...], "list of blocks"),
    ],
)
def test_type_in_words_says_what_to_write(annotation: object, words: str) -> None:
    assert type_in_words(annotation) == words


def test_type_in_words_unknown_type_is_an_error() -> None:
    with pytest.raises(TypeError, match="has no plain words yet"):
        type_in_words(bytes)


def test_models_in_finds_every_kind_through_unions_and_lists() -> None:
    assert models_in(tuple[Annotated[Red | Blue, Field(discriminator="kind")], ...]) == [Red, Blue]
