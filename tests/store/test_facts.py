import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.records import PROMPTS, SCORES
from prefkit.store.batch_ids import batch_time, new_batch_id
from prefkit.store.facts import settled
from prefkit.store.lance_facts import PILE
from tests.store.builders import facts_in, prompt_table, row_id, unstamped


def manifests(folder: Path) -> list[Path]:
    """The manifests of the prompts table, newest first."""
    return sorted((folder / "facts" / "prompts.lance" / "_versions").glob("*.manifest"))


def test_read_after_reopening_gives_exactly_what_was_appended(tmp_path: Path) -> None:
    batch = facts_in(tmp_path).append(PROMPTS, prompt_table(range(5)))
    rows = facts_in(tmp_path).read(PROMPTS, ["id", "messages", "batch_id"]).sort("id")
    assert rows["id"].to_list() == [row_id(n) for n in range(5)]
    assert rows["messages"].to_list()[3] == [{"role": "user", "content": "question 3"}]
    assert set(rows["batch_id"]) == {batch}


def test_read_filters_by_bytes_strings_and_integers_of_any_size(tmp_path: Path) -> None:
    facts = facts_in(tmp_path)
    large = 2**63 - 1
    columns = {"id": [row_id(1), row_id(2)], "scorer_id": [large, large - 1], "aspect": ["it's", "plain"]}
    facts.append(SCORES, unstamped(SCORES, columns))
    assert facts.read(SCORES, ["aspect"], {"id": row_id(1)})["aspect"].to_list() == ["it's"]
    assert facts.read(SCORES, ["id"], {"scorer_id": large - 1})["id"].to_list() == [row_id(2)]
    assert facts.read(SCORES, ["id"], {"aspect": ["it's", "other"]})["id"].to_list() == [row_id(1)]
    assert facts.read(SCORES, ["id"], {"aspect": []}).is_empty()


def test_read_of_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    assert facts_in(tmp_path).read(PROMPTS, ["id", "messages"]).columns == ["id", "messages"]
    assert facts_in(tmp_path).heads()["prompts"] == 0


def test_append_with_a_missing_column_names_it(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"\['messages'\]"):
        facts_in(tmp_path).append(PROMPTS, prompt_table([1]).drop(["messages"]))


def test_compaction_keeps_every_row_and_pinned_versions_stay_readable(tmp_path: Path) -> None:
    facts = facts_in(tmp_path)
    for number in range(PILE * 2 + 3):
        facts.append(PROMPTS, prompt_table([number]))
        if number == 9:
            ten = facts.heads()
            facts.pin("v1.first", ten)
    facts.compact(PROMPTS)
    facts.drop_unpinned_versions()
    everything = set(facts_in(tmp_path).read(PROMPTS, ["id"])["id"])
    assert everything == {row_id(n) for n in range(PILE * 2 + 3)}
    assert set(facts_in(tmp_path).read(PROMPTS, ["id"], at=ten["prompts"])["id"]) == {row_id(n) for n in range(10)}
    # one file holds all current rows, the ten pinned ones are kept for the pin
    assert len(list((tmp_path / "facts" / "prompts.lance" / "data").iterdir())) == 11


def test_append_piles_of_small_files_are_merged_on_the_way(tmp_path: Path) -> None:
    facts = facts_in(tmp_path)
    for number in range(PILE * 3):
        facts.append(PROMPTS, prompt_table([number]))
    assert len(facts.files_read("prompts")) < PILE


def test_gather_many_ids_equals_a_filtered_read(tmp_path: Path) -> None:
    facts = facts_in(tmp_path)
    facts.append(PROMPTS, prompt_table(range(2000)))
    ids = pl.Series([row_id(n) for n in range(0, 2000, 2)])
    many = facts.gather(PROMPTS, ["messages", "id"], ids, facts.heads()["prompts"])
    assert sorted(many["id"]) == ids.to_list()
    few = facts.gather(PROMPTS, ["messages", "id"], ids[:3], facts.heads()["prompts"])
    assert few.sort("id").equals(many.sort("id")[:3])


@pytest.mark.parametrize("kind", ["zero", "half", "garbage"])
def test_open_with_a_torn_newest_manifest_falls_back_and_goes_on(tmp_path: Path, kind: str) -> None:
    facts = facts_in(tmp_path)
    facts.append(PROMPTS, prompt_table([1, 2]))
    facts.append(PROMPTS, prompt_table([3]))
    head = manifests(tmp_path)[0]
    data = head.read_bytes()
    head.write_bytes({"zero": b"", "half": data[: len(data) // 2], "garbage": os.urandom(len(data))}[kind])

    reopened = facts_in(tmp_path)
    assert sorted(reopened.read(PROMPTS, ["id"])["id"]) == [row_id(1), row_id(2)]
    reopened.append(PROMPTS, prompt_table([4]))
    assert sorted(facts_in(tmp_path).read(PROMPTS, ["id"])["id"]) == [row_id(1), row_id(2), row_id(4)]
    assert [p.name for p in (tmp_path / "quarantine").iterdir()] == [f"prompts-{head.name}"]


def test_open_with_a_garbled_version_hint_reads_the_head(tmp_path: Path) -> None:
    facts_in(tmp_path).append(PROMPTS, prompt_table([1]))
    (tmp_path / "facts" / "prompts.lance" / "_versions" / "latest_version_hint.json").write_bytes(b"\0\0{")
    assert facts_in(tmp_path).read(PROMPTS, ["id"]).height == 1


def test_torn_line_in_the_checksum_file_hides_no_other_line(tmp_path: Path) -> None:
    facts = facts_in(tmp_path)
    facts.append(PROMPTS, prompt_table([1]))
    sums = tmp_path / "facts" / "prompts.sums"
    with sums.open("ab") as file:
        file.write(b'\n{"file": "torn.lance", "xx')
    facts.append(PROMPTS, prompt_table([2]))
    assert {k.name for k in facts.files("prompts").known()} == facts.files_read("prompts")


def test_batch_ids_of_one_process_grow_and_tell_the_time() -> None:
    ids = [new_batch_id() for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert all(i[6] >> 4 == 7 and i[8] >> 6 == 2 for i in ids)  # version and variant of RFC 9562
    assert abs(batch_time(ids[0]) - batch_time(ids[-1])) < 60


def try_(number: int, batch: int, *, transient: bool | None = False, attempt: int = 0) -> dict[str, object]:
    return {"id": row_id(number), "batch_id": row_id(batch), "transient": transient, "attempt": attempt}


def test_settled_equal_keys_count_the_smallest_batch() -> None:
    rows = settled(pl.DataFrame([try_(1, 9), try_(1, 3), try_(2, 5)]))
    assert dict(rows.select("id", "batch_id").rows()) == {row_id(1): row_id(3), row_id(2): row_id(5)}
    assert dict(rows.select("id", "superseded").rows()) == {row_id(1): 1, row_id(2): 0}


def test_settled_a_value_stands_before_a_later_transient_failure() -> None:
    rows = settled(
        pl.DataFrame([try_(1, 1, transient=True), try_(1, 2, attempt=1), try_(1, 3, transient=True, attempt=2)])
    )
    assert rows["batch_id"].to_list() == [row_id(2)]


def test_settled_a_retried_final_failure_counts_the_last_attempt() -> None:
    assert settled(pl.DataFrame([try_(1, 1), try_(1, 2, attempt=1)]))["attempt"].to_list() == [1]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50), st.booleans(), st.integers(0, 3)), max_size=30),
    st.randoms(),
)
def test_settled_any_order_of_rows_gives_the_same_rows(keys: list[tuple[int, int, bool, int]], random: object) -> None:
    rows = [try_(n, b, transient=t, attempt=a) for n, b, t, a in dict.fromkeys(keys)]
    rows = list({(r["id"], r["batch_id"]): r for r in rows}.values())  # a batch holds a key once
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    if not rows:
        return
    first, second = settled(pl.DataFrame(rows)).sort("id"), settled(pl.DataFrame(shuffled)).sort("id")
    assert first.equals(second)
    assert first.height == len({r["id"] for r in rows})
    assert first["superseded"].sum() == len(rows) - first.height


def test_facts_written_by_arrow_slices_and_chunks_are_the_same_rows(tmp_path: Path) -> None:
    facts = facts_in(tmp_path)
    whole = prompt_table(range(10))
    facts.append(PROMPTS, pa.concat_tables([whole.slice(2, 3), whole.slice(7, 2)]))
    assert sorted(facts.read(PROMPTS, ["id"])["id"]) == [row_id(n) for n in (2, 3, 4, 7, 8)]
