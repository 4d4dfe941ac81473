"""Reads Hub datasets and prints what became of each as JSON: its rows and fingerprint, or the error.

`datasets` reads its settings when it is first imported, so tests run this in a process of its own.
"""

import json
import sys

from prefkit.errors import PrefkitError
from prefkit.sources.files import file_fingerprint, read_rows
from prefkit.sources.rows import cells


def read(spelling: str) -> dict[str, object]:
    """The cells of every column, or the error."""
    try:
        rows = read_rows(spelling)
        fingerprint = file_fingerprint(spelling, {})
    except PrefkitError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    columns = {column: cells(rows, column).rows() for column in rows.frame.columns}
    return {"name": rows.name, "numbers": rows.numbers.to_list(), "columns": columns, "fingerprint": fingerprint}


if __name__ == "__main__":
    json.dump({spelling: read(spelling) for spelling in sys.argv[1:]}, sys.stdout)
