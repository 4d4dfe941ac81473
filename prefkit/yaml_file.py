"""YAML files that people write, and every mistake in them told in one line.

    text -> node tree (duplicate keys refused) -> plain data -> literal keys refused

Numbers and truth values are read as YAML 1.2 reads them, so `1e-6` is a number and `on`, `off`, `yes` and `no` are
texts; YAML 1.1, which PyYAML speaks, has it the other way round. A secret in a file is refused before anything else
looks at the values, so that no message can repeat it.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, TypeAlias, cast

import yaml

from prefkit.errors import RecipeError, suggestion

Place: TypeAlias = "tuple[str | int, ...]"

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

_BOOL = "tag:yaml.org,2002:bool"


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 floats and truth values, and without duplicate keys."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
                    f"{shown_text(key.value)} is given in lines {first} and {line}, expected once: remove one"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def yaml_mapping(path: Path, what: str, expected: str) -> dict[str, object]:
    """The mapping in a file. Raises RecipeError in one line, which calls the file a `what` that holds `expected`."""
    data = parsed(_text(path, what), str(path))
    if data is None:
        raise RecipeError(f"{path} is empty, expected a mapping with {expected}")
    if not isinstance(data, dict):
        raise RecipeError(f"{path} is a {kind_of(data)}, expected a mapping with {expected}")
    return cast("dict[str, object]", data)


def parsed(text: str, name: str) -> object:
    """The plain data of a YAML text. Raises RecipeError with line and column."""
    try:
        return yaml.load(text, StrictLoader)  # noqa: S506  (a SafeLoader)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
    except RecursionError:
        raise RecipeError(f"{name} is nested too deeply, expected at most {DEEPEST} levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{name} is no valid YAML{_mark(error)}: {_problem(error)}") from None


def refuse_unwritable(data: object, name: str, endless: "Place | None" = None) -> None:
    """Raises RecipeError for a literal secret (without repeating it) and for a number that is not finite.

    At the place `endless`, infinity is a value.
    """
    for place, value in _leaves(data, (), name):
        where = ".".join(map(str, place))
        if isinstance(value, str) and _is_secret(place, value):
            raise RecipeError(
                f"{name}: {where} holds a literal secret, expected none: put it into an environment "
                "variable, name that variable under `api_key_env`, and replace the secret if the file was shared"
            )
        if isinstance(value, float) and not math.isfinite(value) and not (place == endless and value > 0):
            raise RecipeError(f"{name}: {where} is {value}, expected a finite number")


def _leaves(value: object, place: Place, name: str) -> Iterator[tuple[Place, object]]:
    if len(place) > DEEPEST:
        raise RecipeError(f"{name} is nested more than {DEEPEST} levels deep at {place[0]}, expected fewer")
    match value:
        case Mapping():
            for key, item in cast("Mapping[str, object]", value).items():
                yield (*place, "a key"), key
                yield from _leaves(item, (*place, key), name)
        case list():
            for index, item in enumerate(cast("list[object]", value)):
                yield from _leaves(item, (*place, index), name)
        case _:
            yield place, value


def _is_secret(place: Place, value: str) -> bool:
    name = re.sub(r"[^a-z]", "", str(place[-1]).lower()) if place else ""
    if name.endswith("env"):
        return bool(SECRET_VALUE.search(value)) or (name == "apikeyenv" and not VARIABLE_NAME.fullmatch(value))
    return name in SECRET_NAMES or bool(SECRET_VALUE.search(value))


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = suggestion(path.name, siblings)
        raise RecipeError(
            f"{what} {path} does not exist, expected a YAML file{near if 'did you mean' in near else ''}"
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{what} {path} is a folder, expected a YAML file: name one in it") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{what} {path} is not UTF-8 at byte {error.start}, expected a YAML file in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{what} {path} cannot be read: {error.strerror}") from None


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(problem).split())


def shown_text(text: str) -> str:
    """The text in quotes, unless it is a secret."""
    return "a secret" if SECRET_VALUE.search(text) else repr(text)


def kind_of(value: object) -> str:
    """What people call a value of this type."""
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else type(value).__name__
