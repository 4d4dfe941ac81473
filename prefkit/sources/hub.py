"""Datasets of the Hugging Face Hub, read through `datasets`.

One is spelled `org/name`, with its split where it has several, with the subset before the split where it has several of
those, and with a branch, tag or commit: `org/name:split@revision`, `org/name:subset/split@revision`. Nothing is chosen
for the user: what has to be named and is not, is an error that lists what there is.

A dataset is identified by the commit its revision stood for when it was looked up; that commit is what is read. Code
that a dataset brings along is never run.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import polars as pl
import pyarrow as pa
from polars.datatypes import DataType, DataTypeClass

from prefkit.errors import MissingExtraError, SourceError, suggestion
from prefkit.identity import content_id
from prefkit.sources.rows import SourceRows, source_rows

_PART = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(:((?P<subset>[^/:@\s]+)/)?(?P<split>\w+(\.\w+)*))?(@(?P<revision>[^@:\s]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BYTES = pl.struct(type=pl.lit("binary"))
"""What stands for bytes (images, sounds), which no message can carry."""


class HubName(NamedTuple):
    """A dataset of the Hub, and which part and state of it."""

    repo: str
    subset: str | None = None
    split: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        part = "/".join(p for p in (self.subset, self.split) if p)
        return self.repo + (f":{part}" if part else "") + (f"@{self.revision}" if self.revision else "")


def hub_name(text: str) -> HubName | None:
    """What a spelling means, or None when it is none."""
    match = _NAME.fullmatch(text)
    return HubName(match["repo"], match["subset"], match["split"], match["revision"]) if match else None


def hub_fingerprint(name: HubName, mapping: Mapping[str, str]) -> str:
    """32 hex digits that stay the same as long as the dataset's commit and the mapping do; raises as `read_hub`."""
    identity = {"hub": list(name[:3]), "commit": _commit(name), "map": dict(mapping)}
    return content_id("import", identity).hex()


def read_hub(
    name: str, *, subset: str | None = None, split: str | None = None, revision: str | None = None
) -> SourceRows:
    """The rows of one split of a Hub dataset.

    Cells with bytes in them (images, sounds) become objects, which is unsupported content wherever text is expected.
    Raises SourceError when the dataset cannot be had or the split is not named clearly, and MissingExtraError without
    `datasets`.
    """
    asked = HubName(name, subset, split, revision)
    return _rows(asked._replace(revision=_commit(asked)), str(asked))


def _rows(name: HubName, spelling: str) -> SourceRows:
    with _told(spelling):
        from datasets import get_dataset_config_names, load_dataset, load_dataset_builder

        subsets = get_dataset_config_names(name.repo, revision=name.revision)
        subset = _chosen("subset", name.subset, subsets, name)
        builder = load_dataset_builder(name.repo, subset, revision=name.revision)
        splits = [str(s) for s in builder.info.splits or builder.config.data_files or ()]
        split = _chosen("split", name.split, splits, name._replace(subset=subset if len(subsets) > 1 else None))
        table = load_dataset(name.repo, subset, split=split, revision=name.revision).with_format("arrow")[:]
        frame = pl.DataFrame(pl.from_arrow(_plain(table)))
    frame = frame.select(_readable(pl.col(column), kind).alias(column) for column, kind in frame.schema.items())
    return source_rows(spelling, range(1, len(frame) + 1), frame, frozenset(), [])


def _chosen(what: str, asked: str | None, known: Sequence[str], name: HubName) -> str:
    if asked is not None and asked not in known:
        raise SourceError(f"{what} {asked!r} is not in {name.repo}{suggestion(asked, list(known))}")
    if asked is not None or len(known) == 1:
        return asked or known[0]
    example = (
        name._replace(subset=known[0], split=name.split or "train")
        if what == "subset"
        else name._replace(split=known[0])
    )
    raise SourceError(
        f"{name.repo} has the {what}s {', '.join(known)}, expected one of them: "
        f"name it, as in {example._replace(revision=None)}"
    )


def _commit(name: HubName) -> str:
    if name.revision and _COMMIT.fullmatch(name.revision):
        return name.revision
    with _told(str(name)):
        from huggingface_hub import HfApi

        return str(HfApi().dataset_info(name.repo, revision=name.revision).sha)


@contextmanager
def _told(spelling: str) -> Generator[None]:
    """Turns what goes wrong between here and the Hub into one line."""
    try:
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise MissingExtraError(f"{spelling} is read with `datasets`: pip install 'prefkit[train]'") from None
    # What the HTTP client raises when there is no network is the first base of the Hub's own error, and no OSError.
    unreached = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    try:
        yield
    except SourceError:
        raise
    except GatedRepoError:
        trouble = "is gated, expected access: accept its terms on the Hub and log in with `hf auth login`"
    except RepositoryNotFoundError:
        trouble = "does not exist on the Hub or is private: check the name, or log in with `hf auth login`"
    except RevisionNotFoundError:
        trouble = "does not exist on the Hub in this revision: name a branch, tag or commit it has"
    except (DatasetsError, *unreached, OSError, ValueError, RuntimeError) as error:
        trouble = f"cannot be read from the Hub ({_reason(error)}): try again when it can be reached, or give a file"
    else:
        return
    raise SourceError(f"{spelling} {trouble}")


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _plain(table: pa.Table) -> pa.Table:
    """The table without extension types, which only add a meaning to what they store."""
    columns = [
        pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if isinstance(column.type, pa.BaseExtensionType)
        else column
        for column in table.columns
    ]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _readable(value: pl.Expr, kind: DataType | DataTypeClass) -> pl.Expr:
    """The value with `_BYTES` wherever it holds bytes."""
    if not _holds_bytes(kind):
        return value
    match kind:
        case pl.List():
            return value.list.eval(_readable(pl.element(), kind.inner))
        case pl.Struct():
            fields = [_readable(value.struct.field(field.name), field.dtype).alias(field.name) for field in kind.fields]
            return pl.when(value.is_not_null()).then(pl.struct(fields))
        case _:
            return pl.when(value.is_not_null()).then(_BYTES)


def _holds_bytes(kind: DataType | DataTypeClass) -> bool:
    match kind:
        case pl.List():
            return _holds_bytes(kind.inner)
        case pl.Struct():
            return any(_holds_bytes(field.dtype) for field in kind.fields)
        case _:
            return kind == pl.Binary
