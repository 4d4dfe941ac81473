"""A configuration that does not validate, told in one line: where, what it is, what was expected, what may be meant.

Pydantic names a place by its path through the models, which includes the tags of unions (`score, 0, verifier, exact`).
Here it becomes the path in the file as it was written (`score.0`), and the models along it say which keys exist.
"""

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeGuard, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prefkit.errors import suggestion

LONGEST = 60


def told(error: ValidationError, data: object, model: type[BaseModel], what: str) -> str:
    """The first mistake, and how many more there are. `data`, a `what`, is what was validated as a `model`."""
    # A misspelt key comes first: it may be why another is missing. A mistake around another is none of its own: it is
    # another type that the value might have had, or a list that is empty without its mistaken items.
    mistakes = sorted(error.errors(include_url=False), key=lambda m: m["type"] != "extra_forbidden")
    places = [_written(m["loc"], data, model, missing=m["type"] == "missing") for m in mistakes]
    innermost = [not any(place == other[: len(place)] != other for other in places) for place in places]
    first = innermost.index(True)
    more = len({tuple(place) for place, inner in zip(places, innermost, strict=True) if inner}) - 1
    where = ".".join(places[first]) or f"the {what}"
    line = _mistake(mistakes[first], where, model, what)
    return line + (f" (and {more} more mistake{'s' if more > 1 else ''})" if more else "")


def _mistake(mistake: ErrorDetails, where: str, model: type[BaseModel], what: str) -> str:
    loc, context = mistake["loc"], mistake.get("ctx", {})
    match mistake["type"]:
        case "extra_forbidden":
            return f"{where} is no key of {_article(what)} {what}{_near(str(loc[-1]), _keys_beside(loc, model))}"
        case "missing":
            return f"{where} is missing: add it"
        case "union_tag_not_found":
            tag = context["discriminator"].strip("'")
            return f"{where} has no `{tag}`, expected one of {', '.join(_tags(loc, tag, model))}: add it"
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


def _written(loc: Sequence[str | int], data: object, model: type[BaseModel], *, missing: bool) -> list[str]:
    """The path as it stands in the file: without the tags of unions and what pydantic adds."""
    path: list[str] = []
    for number, part in enumerate(loc):
        if isinstance(part, str) and _is_tag(_found_at(loc[:number], model), part):
            continue
        if isinstance(data, Mapping) and part in data:
            path.append(str(part))
            data = cast("Mapping[str | int, object]", data)[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            path.append(str(part))
            data = cast("list[object]", data)[part]
        elif missing and number == len(loc) - 1:
            path.append(str(part))
    return path


def _keys_beside(loc: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    return sorted({field for m in _models_at(loc[:-1], model) for field in m.model_fields})


def _tags(loc: Sequence[str | int], tag: str, model: type[BaseModel]) -> list[str]:
    models = _models_at(loc, model)
    found = [get_args(m.model_fields[tag].annotation) for m in models if tag in m.model_fields]
    return list(dict.fromkeys(value for values in found for value in values))


def _models_at(loc: Sequence[str | int], model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models a place can hold, following field names, the tags of unions and the keys of mappings."""
    return [m for m in _found_at(loc, model) if _is_model(m)]


def _found_at(loc: Sequence[str | int], model: type[BaseModel]) -> list[object]:
    """The models and mappings a place can hold."""
    found: list[object] = [model]
    for part in loc:
        if isinstance(part, str) and _is_tag(found, part):
            found = [m for m in found if _is_model(m) and _has_tag(m, part)]
        elif isinstance(part, str):
            found = [inner for annotation in found for inner in _one_step_in(annotation, part)]
    return found


def _is_tag(found: Sequence[object], part: str) -> bool:
    """Whether a part of a place chooses among the models there: a field can have the name of a tag."""
    tagged = [_is_model(m) and _has_tag(m, part) for m in found]
    return any(tagged) and not all(tagged)


def _one_step_in(annotation: object, part: str) -> list[object]:
    if get_origin(annotation) is dict:
        return _blocks_in(get_args(annotation)[1])
    if not _is_model(annotation):
        return []
    if part in annotation.model_fields:
        return _blocks_in(annotation.model_fields[part].annotation)
    return [annotation] if _has_tag(annotation, part) else []


def _blocks_in(annotation: object) -> list[object]:
    """The models and mappings among the types of an annotation."""
    if _is_model(annotation) or get_origin(annotation) is dict:
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _blocks_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return [block for inner in get_args(annotation) for block in _blocks_in(inner)]
    return []


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(
        get_origin(f.annotation) is Literal and tag in get_args(f.annotation) for f in model.model_fields.values()
    )


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


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
