"""A recipe that does not validate, told in one line: where, what it is, what was expected, and what may be meant.

Pydantic names a place by its path through the models, which includes the tags of unions (`score, 0, verifier, exact`).
Here it becomes the path in the recipe as it was written (`score.0`), and the models along it say which keys exist.
"""

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prefkit.errors import suggestion
from prefkit.pipeline.recipe import Recipe

LONGEST = 60
_ORDER = {"extra_forbidden": 0, "too_short": 2}


def told(error: ValidationError, data: object) -> str:
    """The first mistake, and how many more there are. `data` is what was validated."""
    # A misspelt key comes first: it may be why another is missing. And a list whose items are all mistaken counts as
    # empty as well, which is no mistake of its own.
    mistakes = sorted(error.errors(include_url=False), key=lambda m: _ORDER.get(m["type"], 1))
    mistakes = [m for m in mistakes if m["type"] != "too_short" or m is mistakes[0]]
    more = len(mistakes) - 1
    return _mistake(mistakes[0], data) + (f" (and {more} more mistake{'s' if more > 1 else ''})" if more else "")


def _mistake(mistake: ErrorDetails, data: object) -> str:
    loc, context = mistake["loc"], mistake.get("ctx", {})
    where = ".".join(_written(loc, data, missing=mistake["type"] == "missing")) or "the recipe"
    match mistake["type"]:
        case "extra_forbidden":
            return f"{where} is no key of a recipe{_near(str(loc[-1]), _keys_beside(loc))}"
        case "missing":
            return f"{where} is missing: add it"
        case "union_tag_not_found":
            tag = context["discriminator"].strip("'")
            return f"{where} has no `{tag}`, expected one of {', '.join(_tags(loc, tag))}: add it"
        case "union_tag_invalid":
            known = re.findall(r"'([^']*)'", context["expected_tags"])
            tag, got = context["discriminator"].strip("'"), str(context["tag"])
            return f"{where}.{tag} is {got!r}, expected one of {', '.join(known)}{_close(got, known)}"
        case "literal_error":
            known = re.findall(r"'([^']*)'", context["expected"])
            close = _close(str(mistake["input"]), known)
            return f"{where} is {_shown(mistake['input'])}, expected {context['expected']}{close}"
        case "too_short":
            return f"{where} has no items, expected at least {context['min_length']}"
        case "tuple_type":
            return f"{where} is {_shown(mistake['input'])}, expected a list: put it in square brackets"
        case "string_pattern_mismatch":
            return f"{where} is {_shown(mistake['input'])}, expected text that matches {context['pattern']}"
        case "value_error":
            message = mistake["msg"].removeprefix("Value error, ")
            return f"{where}: {message}" if loc else message
        case kind:
            quotes = ": put it in quotes" if kind == "string_type" and isinstance(mistake["input"], int | float) else ""
            return f"{where} is {_shown(mistake['input'])}, expected {_expected(mistake['msg'])}{quotes}"


def _written(loc: Sequence[str | int], data: object, *, missing: bool) -> list[str]:
    """The path as it stands in the recipe: without the tags of unions and what pydantic adds."""
    path: list[str] = []
    for number, part in enumerate(loc):
        if isinstance(data, Mapping) and part in data:
            path.append(str(part))
            data = cast("Mapping[str | int, object]", data)[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            path.append(str(part))
            data = cast("list[object]", data)[part]
        elif missing and number == len(loc) - 1:
            path.append(str(part))
    return path


def _keys_beside(loc: Sequence[str | int]) -> list[str]:
    return sorted({field for model in _models_at(loc[:-1]) for field in model.model_fields})


def _tags(loc: Sequence[str | int], tag: str) -> list[str]:
    found = [get_args(m.model_fields[tag].annotation) for m in _models_at(loc) if tag in m.model_fields]
    return list(dict.fromkeys(value for values in found for value in values))


def _models_at(loc: Sequence[str | int]) -> list[type[BaseModel]]:
    """The models a place can hold, following field names and the tags of unions."""
    models: list[type[BaseModel]] = [Recipe]
    for part in loc:
        if isinstance(part, int):
            continue
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [m for f in fields for m in _models_in(f)] if fields else [m for m in models if _has_tag(m, part)]
    return models


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return [m for a in get_args(annotation) for m in _models_in(a)]
    return []


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(
        get_origin(f.annotation) is Literal and tag in get_args(f.annotation) for f in model.model_fields.values()
    )


def _near(got: str, known: list[str]) -> str:
    return suggestion(got, known) or ": take it out"


def _close(got: str, known: list[str]) -> str:
    near = suggestion(got, known)
    return near if "did you mean" in near else ""


def _expected(message: str) -> str:
    message = message.removeprefix("Input should be ").removeprefix("Value should ")
    message = re.sub(r"valid dictionary( or instance of \w+)?", "mapping", message).replace("valid string", "text")
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    text = (
        {None: "null", True: "true", False: "false"}.get(value)
        if value is None or isinstance(value, bool)
        else repr(value)
    )
    assert text is not None
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
