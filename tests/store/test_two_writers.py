import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from prefkit.records import PROMPTS, SCORES
from prefkit.store.facts import settled
from tests.store.builders import facts_in

ROUNDS = 100

WRITER = """
import sys
import time
from pathlib import Path
from prefkit.records import PROMPTS, SCORES
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


CREATOR = """
import sys, time
from pathlib import Path
from prefkit.records import PROMPTS
from tests.store.builders import facts_in, prompt_table

folders, writer, start = sys.argv[3:], int(sys.argv[1]), float(sys.argv[2])
for number, folder in enumerate(folders):
    facts = facts_in(Path(folder))
    while time.time() < start + number * 0.15:
        pass
    for row in range(2):
        facts.append(PROMPTS, prompt_table([10 * writer + row]))
"""


def test_three_writers_that_create_a_table_at_once_lose_nothing(tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(20)]
    for folder in folders:
        (folder / "facts").mkdir(parents=True)
    start = str(time.time() + 2)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, str(n), start, *map(str, folders)], cwd=Path(__file__).parents[2]
        )
        for n in range(3)
    ]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert [facts_in(folder).read(PROMPTS, ["id"]).height for folder in folders] == [6] * 20
