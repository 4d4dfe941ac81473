"""Which rows of a version a reader asks for. Places are worked out first, texts are read a few rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs
from polars.exceptions import PolarsError

from prefkit.errors import DamageError, RecipeError, suggestion
from prefkit.store.versions import Version

_BATCH = 128
_TEXTS = ("prompt", "chosen", "rejected", "completion")


@dataclass(frozen=True, slots=True)
class Query:
    """What rows are asked for, and in which order."""

    where: str | None = None
    find: str | None = None
    sort: str | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Matches:
    """The rows of a version that a query asks for; ids are hex text."""

    version: Version
    checked: pl.DataFrame | None
    """What the version's check says of each row, by `place`; None where nobody asks for it."""
    places: pl.Series
    """Where they stand in the version, in the order asked for."""

    def rows(self, skip: int, most: int) -> Iterator[pl.DataFrame]:
        """At most so many of them after the first `skip`, a few at a time."""
        wanted = self.places.slice(skip, most)
        for start in range(0, len(wanted), _BATCH):
            places = wanted.slice(start, _BATCH)
            try:
                rows = _frame(self.version, self.checked).filter(pl.col("place").is_in(places.implode())).collect()
            except PolarsError as error:
                raise _damage(self.version, error) from None
            ordered = places.to_frame("place").join(rows, on="place", maintain_order="left")
            yield ordered.drop("place")


def matching(version: Version, query: Query, check: Callable[[], pl.DataFrame | None]) -> Matches:
    """The rows that a query asks for. Raises RecipeError for one that cannot be obeyed.

    `check` says of each row, by `row`, what the version's check found; it is called for names that are no columns.
    """
    try:
        frame = _frame(version, None)
        own, asked = frame.collect_schema().names(), _asked(query)
        found = None if {name for _, name in asked} <= set(own) else check()
        checked = None if found is None else _placed(found, own)
        frame = frame if checked is None else _frame(version, checked)
        columns = [name for name in frame.collect_schema().names() if name != "place"]
        for option, name in asked:
            _require_column(option, name, columns, version)
        if query.where:
            frame = frame.filter(pl.sql_expr(query.where))
        if query.find is not None:
            frame = frame.filter(pl.any_horizontal(_says(name, query.find) for name in _TEXTS if name in columns))
        if query.sort:
            frame = frame.sort(query.sort, descending=query.descending, nulls_last=True, maintain_order=True)
        return Matches(version, checked, frame.select("place").collect()["place"])
    except (PolarsError, pl.exceptions.PanicException) as error:
        if query.where or query.sort:
            asked = f"--where {query.where!r}" if query.where else f"--sort {query.sort!r}"
            raise RecipeError(f"{asked} cannot be obeyed: {str(error).splitlines()[0]}") from None
        raise _damage(version, error) from None


def _frame(version: Version, checked: pl.DataFrame | None) -> pl.LazyFrame:
    frame = version.frame().drop("row_hash").with_columns(cs.binary().bin.encode("hex")).with_row_index("place")
    return frame if checked is None else frame.join(checked.lazy(), on="place", how="left", maintain_order="left")


def _placed(found: pl.DataFrame, own: Sequence[str]) -> pl.DataFrame:
    """What the check found of each row, by `place`, without what are columns of the version."""
    return found.select(pl.col("row").cast(pl.UInt32).alias("place"), pl.exclude("row", *own))


def _says(column: str, text: str) -> pl.Expr:
    """Whether a message of the column contains the text, whatever the case of its (ASCII) letters."""
    content = pl.element().struct.field("content")
    return pl.col(column).list.eval(content.str.contains_any([text], ascii_case_insensitive=True)).list.any()


def _asked(query: Query) -> list[tuple[str, str]]:
    """The options that name columns, with each name."""
    sort = [("--sort", query.sort)] if query.sort else []
    return sort + [("--where", name) for name in pl.sql_expr(query.where).meta.root_names()] if query.where else sort


def _require_column(option: str, name: str, columns: list[str], version: Version) -> None:
    if name not in columns:
        near = suggestion(name, columns)
        raise RecipeError(f"{option} names {name!r}, expected a column of {version.label}{near}")


def _damage(version: Version, error: BaseException) -> DamageError:
    trouble = str(error).splitlines()[0]
    return DamageError(f"rows of {version.label} cannot be read ({trouble}): run `prefkit verify`")
