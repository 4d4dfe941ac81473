import subprocess
import sys
from pathlib import Path

import polars as pl

from prefkit.records import SCORES
from prefkit.store.facts import settled
from tests.store.builders import facts_in

ROUNDS = 100

WRITER = """
import sys
from pathlib import Path
from prefkit.records import SCORES
from tests.store.builders import facts_in, row_id, unstamped

folder, writer, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
facts = facts_in(folder)
for number in range(rounds):
    # every round brings one key that only this writer has and one that both have
    ids = [row_id(1_000_000 * (writer + 1) + number), row_id(number)]
    facts.append(SCORES, unstamped(SCORES, {"id": ids, "score": [float(writer)] * 2, "attempt": [0, 0]}))
"""


def test_two_writers_at_once_lose_nothing_and_agree_on_equal_keys(tmp_path: Path) -> None:
    (tmp_path / "facts").mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(n), str(ROUNDS)], cwd=Path(__file__).parents[2]
        )
        for n in range(2)
    ]
    assert [w.wait() for w in writers] == [0, 0]
    rows = facts_in(tmp_path).read(SCORES, ["id", "batch_id", "score", "transient", "attempt"])
    assert rows.height == 4 * ROUNDS
    counted = settled(rows)
    assert counted.height == 3 * ROUNDS
    assert counted["superseded"].sum() == ROUNDS
    shared = rows.filter(pl.col("id").is_duplicated())
    assert shared.height == 2 * ROUNDS
    first = shared.group_by("id").agg(pl.col("batch_id").min())
    kept = counted.join(first, on=["id", "batch_id"], how="inner")
    assert kept.height == ROUNDS
    assert settled(rows.reverse()).sort("id").equals(counted.sort("id"))
