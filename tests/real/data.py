"""Real public data, where a machine has it: its folder and its tables.

It lies in the folder that PREFKIT_REAL_DATA names, else in `shared/data` beside this repository. None of it is part of
the repository; `imports/` says how each set is imported, with paths relative to that folder.
"""

import os
from pathlib import Path

import polars as pl

VARIABLE = "PREFKIT_REAL_DATA"
IMPORTS = Path(__file__).parent / "imports"


def data_folder() -> Path:
    """Where the data should be."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path(__file__).resolve().parents[2].parent / "shared" / "data"


def table(name: str) -> pl.DataFrame:
    """A table as it is published, with the number of each row as import outcomes tell it, from 1."""
    return pl.read_parquet(data_folder() / f"{name}.parquet").with_row_index("row", offset=1)
