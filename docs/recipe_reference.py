"""Writes docs/recipe.md from the configuration models, so the reference cannot fall behind the code.

Every block of the recipe becomes a section with a table of its fields; a block that comes in kinds becomes a table per
base class, of what its kinds share, and one per kind. The words are the docstrings of the models and their fields.
"""

import json
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from prefkit.config import Config
from prefkit.pipeline.recipe import Recipe

TARGET = Path(__file__).parent / "recipe.md"
HEAD = """# The recipe

<!-- Written by docs/recipe_reference.py from the configuration models: change those, then run `make docs`. -->

A recipe is one YAML file. It is validated whole before anything runs; an unknown key is an error, and so is a number
that is not finite, except where `.inf` is said to be allowed. `prefkit build --set a.b=3` overrides a value.
"""
SCALARS: Mapping[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def reference() -> str:
    """The text of docs/recipe.md."""
    blocks = {name: field for name, field in Recipe.model_fields.items() if models_in(field.annotation)}
    own = {name: field for name, field in Recipe.model_fields.items() if name not in blocks}
    parts = [HEAD, *_table([_row(Recipe, name, field) for name, field in own.items()])]
    parts += ["", "| block | needed | what it is |", "|---|---|---|"]
    parts += [f"| [`{name}`](#{name}) | {_need(field)} | {_block_meaning(field)} |" for name, field in blocks.items()]
    for name, field in blocks.items():
        parts += ["", *_section(name, field)]
    return "\n".join(parts) + "\n"


def models_in(annotation: object) -> list[type[Config]]:
    """The configuration models named in an annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def type_in_words(annotation: object) -> str:
    """A type as somebody who writes YAML would say it."""
    if models_in(annotation):
        return "list of blocks" if get_origin(annotation) is tuple else "block"
    if annotation in SCALARS:
        return SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _either([f"`{member.value}`" for member in annotation])
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_in_words(arguments[0])
    if origin is Literal:
        return _either([f"`{value}`" for value in arguments])
    if origin in (Union, types.UnionType):
        return _either([type_in_words(argument) for argument in arguments])
    if origin in (tuple, list):
        return f"list of {type_in_words(arguments[0])}"
    if origin is dict:
        return f"map from {type_in_words(arguments[0])} to {type_in_words(arguments[1])}"
    raise TypeError(f"{annotation!r} has no plain words yet: give it some here")


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    models = models_in(field.annotation)
    yield from [f"## {name}", ""]
    if len(models) == 1:
        yield cleandoc(models[0].__doc__ or "")
        yield from ["", *_table(_rows(models[0])), *_nested(models[0])]
        return
    yield _block_meaning(field)
    for base in dict.fromkeys(base for model in models for base in _bases(model)):
        heirs = [_tag(model) for model in models if base in _bases(model)]
        shared = "every kind" if len(heirs) == len(models) else ", ".join(heirs)
        yield from ["", f"### Shared by {shared}", "", cleandoc(base.__doc__ or ""), "", *_table(_own_rows(base))]
    for model in models:
        yield from ["", f"### {_tag(model)}", "", cleandoc(model.__doc__ or "")]
        yield from ["", *_table(_own_rows(model))] if _own_rows(model) else []
        yield from _nested(model)


def _bases(model: type[Config]) -> list[type[Config]]:
    """The models between `Config` and this one that bring fields, the most general first."""
    between = [base for base in reversed(model.__mro__[1:]) if issubclass(base, Config) and base is not Config]
    return [base for base in between if _own_rows(base)]


def _own_rows(model: type[Config]) -> list[str]:
    """The rows that are not already those of a base."""
    inherited = [row for base in model.__bases__ if issubclass(base, Config) for row in _rows(base)]
    return [row for row in _rows(model) if row not in inherited]


def _nested(model: type[Config]) -> Iterator[str]:
    """Tables of the blocks within a block, one level down, but for those that are blocks of the recipe too."""
    top = {m for field in Recipe.model_fields.values() for m in models_in(field.annotation)}
    for name, field in model.model_fields.items():
        for inner in models_in(field.annotation):
            if inner not in top:
                yield from ["", f"`{name}`: {cleandoc(inner.__doc__ or '')}", "", *_table(_rows(inner))]


def _table(rows: list[str]) -> list[str]:
    return ["| field | type | default | meaning |", "|---|---|---|---|", *rows]


def _rows(model: type[Config]) -> list[str]:
    family = [model, *model.__subclasses__()]
    fixed = {name for relative in family for name, field in relative.model_fields.items() if _is_fixed(field)}
    return [_row(model, name, field) for name, field in model.model_fields.items() if name not in fixed]


def _row(model: type[Config], name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"{model.__name__}.{name} says nothing about itself: put a docstring under the field")
    words = f"{type_in_words(field.annotation)}{_bounds(field)}"
    return f"| `{name}` | {_cell(words)} | {_default(field)} | {_cell(field.description)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _bounds(field: FieldInfo) -> str:
    limits = [
        f"{word} {_number(getattr(constraint, attribute))}"
        for constraint in field.metadata
        for attribute, word in BOUNDS.items()
        if getattr(constraint, attribute, None) is not None
    ]
    limits += ["not empty" for constraint in field.metadata if getattr(constraint, "min_length", None)]
    return f", {' and '.join(limits)}" if limits else ""


def _number(value: float) -> str:
    is_power_of_two = isinstance(value, int) and value > 1024 and value.bit_count() == 1
    return f"2^{int(value).bit_length() - 1}" if is_power_of_two else f"{value:g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Config):
        return _tag(type(value)) if _tags(type(value)) else "its defaults"
    return f"`{json.dumps(value)}`"


def _need(field: FieldInfo) -> str:
    default = _default(field)
    return {"`null`": "no", "`[]`": "no", "its defaults": "no", "**needed**": "yes"}.get(default, f"no: {default}")


def _block_meaning(field: FieldInfo) -> str:
    models = models_in(field.annotation)
    if len(models) == 1:
        return _cell(field.description or cleandoc(models[0].__doc__ or "").split("\n\n")[0])
    if not field.description:
        raise ValueError(f"a block of {len(models)} kinds says nothing about itself: put a docstring under the field")
    return _cell(field.description)


def _is_fixed(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _tags(model: type[Config]) -> list[str]:
    fixed = {name: field for name, field in model.model_fields.items() if _is_fixed(field) and field.is_required()}
    return [f"{name}: {get_args(field.annotation)[0]}" for name, field in fixed.items()]


def _tag(model: type[Config]) -> str:
    return f"`{', '.join(_tags(model))}`"


if __name__ == "__main__":
    TARGET.write_text(reference())
    print(f"wrote {TARGET}")
