"""Scorers that are a function of the user's, named by import path.

The function is called once per completion as `function(prompt, completion, **inputs, **arguments)`: the prompt's
messages, the completion's text, the task columns the recipe lists under `read`, and the recipe's `arguments`. What it
returns is the score: a finite number, a truth value, or None for undecided. What it raises fails that one completion:
connection errors and time-outs are tried again by the next build, anything else is final.

A score must never be reused after the code behind it changed. So the identity of such a scorer holds a digest of the
source file (unless the recipe states a `revision`, and so takes that on itself), and exactly the bytes of that digest
are executed, whatever an earlier import or a byte-code cache may hold.
"""

import importlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import SupportsFloat, cast

from prefkit.errors import RecipeError, suggestion
from prefkit.scoring.config import PythonScorer as PythonScorerConfig
from prefkit.scoring.config import ScoreConfig
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest

DIGEST = "__prefkit_digest__"
"""The attribute of a loaded module that names the source it was made from."""


class PythonScorer:
    """Calls a function for every request."""

    def __init__(self, config: PythonScorerConfig, function: Callable[..., object]) -> None:
        self._config = config
        self._function = function

    @classmethod
    def open(cls, config: ScoreConfig, folder: Path) -> "PythonScorer":
        """The scorer `python` of a recipe in `folder`. Raises RecipeError when there is no such function."""
        assert isinstance(config, PythonScorerConfig)
        return cls(config, _function(config.path, folder))

    @property
    def deterministic(self) -> bool:
        return False  # nobody knows what the function does

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        size = self._config.batch_size
        for start in range(0, len(requests), size):
            yield [self._row(request) for request in requests[start : start + size]]

    def _row(self, request: ScoreRequest) -> Score | ScoreFailure:
        key = (request.completion_id, request.aspect, request.repeat)
        try:
            value = self._function(request.prompt, request.completion, **request.inputs, **self._config.arguments)
            if value is None:
                return ScoreFailure(*key, ScoreFailureKind.UNDECIDED, detail="returned None")
            return Score(*key, _finite(value))
        except Exception as error:  # noqa: BLE001 - a fault in user code fails one row, not its siblings
            return ScoreFailure(*key, _kind(error), detail=f"{type(error).__name__}: {error}")


class NoNumberError(Exception):
    """The function returned something that is no finite number."""


def source_digest(path: str, folder: Path) -> str:
    """32 hex digits of the source file that `module:function` names, without importing it. Raises RecipeError."""
    spec = _found(path, folder)
    return _digest(_source(path, spec))


def _finite(value: object) -> float:
    if not isinstance(value, SupportsFloat):
        raise NoNumberError(f"returned {value!r:.200}, expected a number or None")
    number = float(value)
    if not math.isfinite(number):
        raise NoNumberError(f"returned {number}, expected a finite number or None")
    return number


def _kind(error: Exception) -> ScoreFailureKind:
    match error:
        case TimeoutError():
            return ScoreFailureKind.TIMEOUT
        case ConnectionError():
            return ScoreFailureKind.CONNECTION
        case _:
            return ScoreFailureKind.UNPARSABLE


def _function(path: str, folder: Path) -> Callable[..., object]:
    module, _, name = path.partition(":")
    found: object = _module(path, folder)
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(found).items() if callable(value) and not n.startswith("_")]
            raise RecipeError(f"python scorer {path!r}: {module} has no {part!r}{suggestion(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise RecipeError(f"python scorer {path!r} is a {type(found).__name__}, expected a function")
    return found


def _module(path: str, folder: Path) -> ModuleType:
    name = path.partition(":")[0]
    spec = _found(path, folder)
    source = _source(path, spec)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) != spec.origin:
        raise RecipeError(
            f"python scorer {path!r} is {spec.origin}, but another module of that name is loaded: rename your file"
        )
    if getattr(loaded, DIGEST, None) == _digest(source):
        return cast(ModuleType, loaded)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that files beside a recipe never shadow an installed package
    try:
        return _executed(name, spec, source)
    except Exception as error:
        raise RecipeError(
            f"python scorer {path!r} cannot be imported: {type(error).__name__}: {error}; repair {spec.origin}"
        ) from error


def _executed(name: str, spec: ModuleSpec, source: bytes) -> ModuleType:
    if parent := name.rpartition(".")[0]:
        importlib.import_module(parent)
    module = module_from_spec(spec)
    setattr(module, DIGEST, _digest(source))
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(source, str(spec.origin), "exec"), module.__dict__)  # noqa: S102 - importing, but of the bytes that were digested
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module


def _found(path: str, folder: Path) -> ModuleSpec:
    """Where the module is: beside the recipe, or else where Python finds it. Imports nothing."""
    importlib.invalidate_caches()
    places: list[str] | None = [str(folder), *sys.path]
    spec: ModuleSpec | None = None
    name = ""
    for part in path.partition(":")[0].split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, places)
        if spec is None:
            raise RecipeError(f"python scorer {path!r}: no module {name!r} in {folder} or among the installed packages")
        places = spec.submodule_search_locations and list(spec.submodule_search_locations)
    assert spec is not None
    return spec


def _source(path: str, spec: ModuleSpec) -> bytes:
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise RecipeError(f"python scorer {path!r} is in {spec.origin or 'a folder'}, expected a .py file")
    return Path(spec.origin).read_bytes()


def _digest(source: bytes) -> str:
    return blake2b(source, digest_size=16).hexdigest()
