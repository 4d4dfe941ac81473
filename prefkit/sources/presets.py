"""Flat mappings for files of a usual shape: `--as KIND --map ours=theirs`, as the table that `import.yaml` would say.

A field that is not mapped is the file's column of the same name, if it has one. A value is a column, several columns
with commas between, or a literal written with an equals sign (`--map scorer==gpt-4`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from prefkit.errors import RecipeError, SourceError, suggestion
from prefkit.mistakes import told
from prefkit.sources.columns import first_names
from prefkit.sources.config import TableConfig

_BESIDE = ("answer", "source", "split", "metadata")
_PROMPT = ("prompt", "key", *_BESIDE)
_RATING = ("prompt", "key", "scorer", "aspect", "repeat", "rationale")
FIELDS = {
    "prompts": _PROMPT,
    "completions": (*_PROMPT, "completion", "model", "completion_key"),
    "scores": (*_RATING, "completion", "model", "completion_key", "score"),
    "comparisons": (
        *_RATING, "completion_a", "completion_b", "model_a", "model_b", "key_a", "key_b", "preference", "order",
    ),
    "preferences": (
        "prompt", "chosen", "rejected", "chosen_model", "rejected_model", "chosen_score", "rejected_score", "scorer",
    ),
}  # fmt: skip
"""What a flat mapping of each kind may name."""
KINDS = tuple(FIELDS)


def preset(kind: str, mapping: Mapping[str, str], path: str | Path, columns: Sequence[str], source: str) -> TableConfig:
    """The table of a file of this kind, whose columns are `columns`; ratings without a scorer are the source's own.

    Raises RecipeError for an unknown kind or field, and SourceError where a column that the kind needs is missing.
    """
    if kind not in FIELDS:
        raise RecipeError(f"--as got {kind!r}, expected one of {', '.join(KINDS)}{_close(kind, KINDS)}")
    for field in mapping:
        if field not in FIELDS[kind]:
            known = ", ".join(FIELDS[kind])
            raise RecipeError(f"--map names {field!r}, expected one of {known}{_close(field, FIELDS[kind])}")
    flat = _Flat(str(path), mapping, tuple(columns), source)
    table = {"path": flat.path, **_TABLES[kind](flat)}
    try:
        return TableConfig.model_validate(table)
    except ValidationError as error:
        raise RecipeError(f"{path}: {told(error, table, TableConfig, 'mapping')}") from None


@dataclass(frozen=True, slots=True)
class _Flat:
    """What was mapped, and what the file has."""

    path: str
    mapping: Mapping[str, str]
    columns: tuple[str, ...]
    source: str

    def one(self, field: str) -> str | None:
        """The column or literal of a field, or None."""
        return self.mapping.get(field, field if field in self.columns else None)

    def some(self, field: str) -> str | list[str] | None:
        """The columns of a field: one, or several in a list."""
        named = self.one(field)
        if named is None or named in self.columns or named.startswith("=") or "," not in named:
            return named
        return [name.strip() for name in named.split(",") if name.strip()]

    def need(self, *fields: str) -> None:
        """Raises SourceError when none of the fields has a column."""
        if any(self.one(field) is not None for field in fields):
            return
        example = self.columns[0] if self.columns else "COLUMN"
        raise SourceError(
            f"{self.path} has no column {' or '.join(map(repr, fields))}, got {first_names(self.columns)}: say which "
            f"one it is, as in `--map {fields[0]}={example}`"
        )


def _prompts(flat: _Flat) -> dict[str, object]:
    flat.need("prompt")
    return {"prompt": _prompt(flat)}


def _completions(flat: _Flat) -> dict[str, object]:
    flat.need("completion")
    completion = _completion(flat, "completion", "model", "completion_key")
    return {"prompt": _prompt(flat), "completions": {"completion": completion}}


def _scores(flat: _Flat) -> dict[str, object]:
    flat.need("score")
    flat.need("completion", "completion_key", "model")
    completion = _completion(flat, "completion", "model", "completion_key")
    score = _given(
        of="completion" if completion else flat.some("completion_key") or flat.one("model"),
        score=flat.some("score"),
        **_said(flat),
    )
    return {
        "prompt": _prompt(flat, beside=()),
        "completions": {"completion": completion} if completion else {},
        "scores": [score],
    }


def _comparisons(flat: _Flat) -> dict[str, object]:
    flat.need("preference")
    found: dict[str, dict[str, object]] = {}
    for side in ("a", "b"):
        flat.need(f"completion_{side}", f"key_{side}", f"model_{side}")
        found[side] = _completion(flat, f"completion_{side}", f"model_{side}", f"key_{side}")
    named = {side: side if found[side] else flat.some(f"key_{side}") or flat.one(f"model_{side}") for side in found}
    comparison = _given(preference=flat.one("preference"), order=flat.one("order"), **named, **_said(flat))
    completions = {side: completion for side, completion in found.items() if completion}
    return {"prompt": _prompt(flat, beside=()), "completions": completions, "comparisons": [comparison]}


def _preferences(flat: _Flat) -> dict[str, object]:
    flat.need("prompt")
    for side in ("chosen", "rejected"):
        flat.need(side)
    scorer = _said(flat)["scorer"]
    scored = [side for side in ("chosen", "rejected") if flat.one(f"{side}_score") is not None]
    return {
        "prompt": {"text": flat.some("prompt")},
        "completions": {side: _completion(flat, side, f"{side}_model", None) for side in ("chosen", "rejected")},
        "scores": [{"of": side, "score": flat.one(f"{side}_score"), "scorer": scorer} for side in scored],
        "comparisons": [{"a": "chosen", "b": "rejected", "preference": "=1", "scorer": scorer}],
    }


_TABLES: dict[str, Callable[[_Flat], dict[str, object]]] = {
    "prompts": _prompts,
    "completions": _completions,
    "scores": _scores,
    "comparisons": _comparisons,
    "preferences": _preferences,
}


def _prompt(flat: _Flat, beside: Sequence[str] = _BESIDE) -> dict[str, object]:
    """The prompt in words or by its key. What stands beside it in the file belongs to a prompt in words only."""
    flat.need("prompt", "key")
    text = flat.some("prompt")
    wanted = [field for field in beside if text is not None or field in flat.mapping]
    return _given(text=text, key=flat.some("key"), **{field: _beside(flat, field) for field in wanted})


def _beside(flat: _Flat, field: str) -> str | list[str] | None:
    return flat.some(field) if field == "metadata" else flat.one(field)


def _completion(flat: _Flat, text: str, model: str, key: str | None) -> dict[str, object]:
    """The completion in words, or nothing where the file has none."""
    if flat.one(text) is None:
        return {}
    return _given(text=flat.one(text), model=flat.one(model), key=flat.some(key) if key else None)


def _said(flat: _Flat) -> dict[str, object]:
    said = {name: flat.one(name) for name in ("aspect", "repeat", "rationale")}
    if isinstance(flat.some("score"), list) and "aspect" not in flat.mapping:
        said["aspect"] = None  # the columns are the aspects
    return _given(scorer=flat.one("scorer") or f"={flat.source}", **said)


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _close(got: str, known: Sequence[str]) -> str:
    near = suggestion(got, list(known))
    return near if "did you mean" in near else ""
