"""Facts that were written twice: which row of a key counts in a version."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from prefkit.pipeline.build import Built
from prefkit.records import COMPLETIONS, SCORES, FactTable
from prefkit.store.workspace import Workspace
from tests.pipeline.builders import built, workspace_in

LOUDER = pl.col("completion").list.eval(
    pl.struct(role=pl.element().struct.field("role"), content=pl.element().struct.field("content") + "!")
)
CHANGES = [(SCORES, "score", pl.col("score") + 100), (COMPLETIONS, "completion", LOUDER)]


def best(workspace: Workspace) -> Built:
    """One pair per prompt by fake scores."""
    return built(workspace, score=[{"kind": "fake"}], select={"kind": "best_vs_worst"})


def write_again(workspace: Workspace, table: FactTable, **changes: pl.Expr) -> int:
    """Appends every second row of the table once more, changed, and returns how many these are."""
    fields = [f for f in table.schema if f.name not in ("batch_id", "row_hash")]
    rows = workspace.facts.read(table, [f.name for f in fields]).sort("id")[::2].with_columns(**changes)
    workspace.facts.append(table, rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.schema(fields)))
    return rows.height


@pytest.mark.parametrize(("table", "column", "change"), CHANGES)
def test_a_fact_written_twice_counts_as_it_was_first(
    tmp_path: Path, table: FactTable, column: str, change: pl.Expr
) -> None:
    workspace = workspace_in(tmp_path)
    first = best(workspace)
    write_again(workspace, table, **{column: change})
    again = best(workspace)
    assert (again.new, again.drawn, again.labelled) == (False, 0, 0)
    assert again.version == first.version


@pytest.mark.parametrize(("table", "column", "change"), CHANGES)
def test_a_fact_of_a_later_attempt_replaces_the_earlier_one(
    tmp_path: Path, table: FactTable, column: str, change: pl.Expr
) -> None:
    workspace = workspace_in(tmp_path)
    before = best(workspace).version.frame("train").collect()
    count = write_again(workspace, table, **{column: change}, attempt=pl.col("attempt") + 1)
    done = best(workspace)
    assert (done.drawn, done.version.provenance["superseded"]) == (0, count)
    after = done.version.frame("train").collect()
    if table is SCORES:
        assert before["chosen_score"].max() < 100 < after["chosen_score"].max()
    else:
        said = pl.col("chosen").list.last().struct.field("content").str.ends_with("!")
        assert not before.select(said.any()).item()
        assert after.select(said.any()).item()
