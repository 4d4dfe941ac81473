"""The manifest of a version, typed as it stands in `manifest.json`."""

from hashlib import blake2b
from typing import Literal, TypedDict, cast

from prefkit.identity import Json, canonical_json
from prefkit.ledger import AccountEntry

FORMAT = 1


class FileEntry(TypedDict):
    """A data file as it was written: how many rows, and 64 hex digits over its bytes and over its ids."""

    rows: int
    blake2b: str
    ids_blake2b: str


class Measure(TypedDict):
    """A measure with its 95 % interval and the number of pairs it rests on; null where no pair counts."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int


class JudgeReport(TypedDict):
    """What a pairwise judge prefers besides quality (see `prefkit.scoring.judge.bias`)."""

    judge: str
    revision: str
    measures: dict[str, Measure]


class Content(TypedDict):
    """What the version is. Two builds that reach the same facts by different ways have the same content."""

    kind: Literal["pairs", "subset"]
    fingerprint: str
    recipe: dict[str, Json]
    parents: list[str]
    ledger: list[AccountEntry]
    judges: list[JudgeReport]
    shift: dict[str, Json] | None
    """What the check found, in numbers; null without one, or where it left no row."""
    to_retry: int
    files: dict[str, FileEntry]


class ConfigIds(TypedDict):
    """The ids under which its facts stand, in the order of the recipe's `sample` and `score`."""

    samplers: list[int]
    scorers: list[int]
    reference: int | None
    """Of the samples of a check's reference."""


class Provenance(TypedDict):
    """Who made it, when, where, and from which recipe as it was written."""

    created: str
    by: str
    host: str
    python: str
    packages: dict[str, str]
    recipe: dict[str, Json]
    folder: str
    import_ids: list[str]
    config_ids: ConfigIds
    superseded: int
    previous: str | None


class Manifest(TypedDict):
    """The whole file. `content_hash` covers `content`; pins and provenance stand outside it."""

    format: int
    label: str
    content: Content
    content_hash: str
    pins: dict[str, int]
    provenance: Provenance


def content_hash(content: Content) -> str:
    """64 hex digits over the content part of a manifest."""
    return blake2b(canonical_json(cast(Json, content)), digest_size=32).hexdigest()
