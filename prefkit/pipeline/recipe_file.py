"""Recipe files: YAML, overrides from the command line, and every mistake told in one line.

    text -> node tree (duplicate keys refused) -> plain data -> overrides -> literal keys refused -> validated Recipe

Numbers are read as YAML 1.2 reads them, so `1e-6` is a number; YAML 1.1, which PyYAML speaks, takes it for text. A
secret in a recipe is refused before anything else looks at the values, so that no message can repeat it.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import yaml
from pydantic import ValidationError

from prefkit.errors import RecipeError, suggestion
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.recipe_mistakes import told

Place: TypeAlias = "tuple[str | int, ...]"

ENDLESS = ("train", "sync_period")
"""The one place where infinity is a value: never synchronise."""
DEEPEST = 50
SECRET_NAMES = {
    "apikey", "token", "accesstoken", "authtoken", "useauthtoken", "apitoken", "hftoken", "hubtoken", "secret",
    "clientsecret", "secretkey", "password", "passwd", "privatekey",
}  # fmt: skip
SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-(?!learn)[A-Za-z0-9_-]{12,}|hf_[A-Za-z0-9]{12,}|AKIA[0-9A-Z]{12,}|gh[oprsu]_[A-Za-z0-9]{20,}|"
    r"xox[abprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,})|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@]+@"
)
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class RecipeLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 floats and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> "dict[Hashable, object]":
        """The mapping. Raises RecipeError for a key that comes twice or is no text."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise RecipeError(f"a key in line {line} is no text, expected a name: put it in quotes")
            if key.value in lines:
                first = lines[key.value]
                raise RecipeError(
                    f"{_shown(key.value)} is given in lines {first} and {line}, expected once: remove one"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The validated recipe of a file, with overrides such as `sample.n=12` applied in order.

    Raises RecipeError in one line for everything that can be wrong with it.
    """
    data = parsed(_text(path), str(path))
    if data is None:
        raise RecipeError(f"{path} is empty, expected a mapping with name, prompts, sample, score and select")
    if not isinstance(data, dict):
        raise RecipeError(f"{path} is a {_kind(data)}, expected a mapping with name, prompts, sample, score and select")
    for override in overrides:
        override_value(data, override)
    refuse_unwritable(data, str(path))
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {told(error, data)}") from None


def parsed(text: str, name: str) -> object:
    """The plain data of a YAML text. Raises RecipeError with line and column."""
    try:
        return yaml.load(text, RecipeLoader)  # noqa: S506  (a SafeLoader)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
    except RecursionError:
        raise RecipeError(f"{name} is nested too deeply, expected at most {DEEPEST} levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{name} is no valid YAML{_mark(error)}: {_problem(error)}") from None


def override_value(data: dict[str, object], override: str) -> None:
    """Sets the value at a dotted path, as in `select.per_prompt=2` or `score.0.repeats=3`; the value is YAML.

    Blocks that are missing on the way are made: whether they belong in a recipe is for its validation to say.
    """
    path, equals, text = override.partition("=")
    if not equals or not all(path.split(".")):
        raise RecipeError(
            f"--set got {_shown(override)}, expected KEY=VALUE with a dotted key, as in `--set sample.n=12`"
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
            f"--set {where}.{part} does not exist: {where} is a {_kind(place)}, expected a mapping or list"
        )
    return cast("dict[str | int, object]", place)


def _key(place: object, part: str) -> str | int:
    return int(part) if isinstance(place, list) else part


def refuse_unwritable(data: object, name: str) -> None:
    """Raises RecipeError for a literal secret (without repeating it) and for a number that is not finite."""
    for place, value in _leaves(data, ()):
        where = ".".join(map(str, place))
        if isinstance(value, str) and _is_secret(place, value):
            raise RecipeError(
                f"{name}: {where} holds a literal secret, expected none in a recipe: put it into an environment "
                "variable, name that variable under `api_key_env`, and replace the secret if the file was shared"
            )
        if isinstance(value, float) and not math.isfinite(value) and not (place == ENDLESS and value > 0):
            raise RecipeError(f"{name}: {where} is {value}, expected a finite number")


def _leaves(value: object, place: Place) -> Iterator[tuple[Place, object]]:
    if len(place) > DEEPEST:
        raise RecipeError(f"the recipe is nested more than {DEEPEST} levels deep at {place[0]}, expected fewer")
    match value:
        case Mapping():
            for key, item in cast("Mapping[str, object]", value).items():
                yield (*place, "a key"), key
                yield from _leaves(item, (*place, key))
        case list():
            for index, item in enumerate(cast("list[object]", value)):
                yield from _leaves(item, (*place, index))
        case _:
            yield place, value


def _is_secret(place: Place, value: str) -> bool:
    name = re.sub(r"[^a-z]", "", str(place[-1]).lower()) if place else ""
    if name.endswith("env"):
        return bool(SECRET_VALUE.search(value)) or (name == "apikeyenv" and not VARIABLE_NAME.fullmatch(value))
    return name in SECRET_NAMES or bool(SECRET_VALUE.search(value))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = suggestion(path.name, siblings)
        raise RecipeError(
            f"recipe {path} does not exist, expected a YAML file{near if 'did you mean' in near else ''}"
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"recipe {path} is a folder, expected a YAML file: name one in it") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path} is not UTF-8 at byte {error.start}, expected a YAML file in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from None


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(problem).split())


def _shown(text: str) -> str:
    return "a secret" if SECRET_VALUE.search(text) else repr(text)


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else type(value).__name__
