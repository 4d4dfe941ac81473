import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from prefkit.errors import NotFoundError, RecipeError, SourceError
from prefkit.identity import Json, config_id
from prefkit.pipeline.imports.content import feeding, held, imports_by_id, newest_import, require_import, source_tasks
from prefkit.pipeline.imports.importing import Imported, file_job, import_prompts, import_tables, previewed, run
from prefkit.records import COMPARISONS, COMPLETIONS, CONFIGS, IMPORTS, SCORES, TASKS, FactTable
from prefkit.sources.config import ImportConfig
from prefkit.store.facts import FactStore
from prefkit.store.workspace import Workspace

PROMPTS: list[dict[str, Json]] = [{"id": "p", "prompt": "Hi", "answer": "1"}, {"id": "q", "prompt": "Ho"}]
ANSWERS: list[dict[str, Json]] = [
    {"id": "p", "model": "A", "text": "good"},
    {"id": "p", "model": "B", "text": "bad"},
    {"id": "q", "model": "A", "text": "fine"},
]
JUDGMENTS: list[dict[str, Json]] = [
    {"id": "p", "one": "A", "other": "B", "better": 1.0, "judge": "gpt"},
    {"id": "q", "one": "A", "other": "B", "better": 0.0, "judge": "gpt"},
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path)


def file(workspace: Workspace, name: str, rows: Sequence[Mapping[str, Json]]) -> Path:
    path = workspace.root.parent / name
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def prompts(workspace: Workspace, rows: Sequence[Mapping[str, Json]] = PROMPTS, source: str = "base") -> Imported:
    path = file(workspace, f"{source}.jsonl", rows)
    return run(workspace.facts, file_job(path, "prompts", {"key": "id"}, source))


def answers(workspace: Workspace, rows: Sequence[Mapping[str, Json]] = ANSWERS, of: str | None = "base") -> Imported:
    path = file(workspace, "answers.jsonl", rows)
    return run(workspace.facts, file_job(path, "completions", {"key": "id", "completion": "text"}, "answers", of))


def judgments(workspace: Workspace, of: str = "base", rows: Sequence[Mapping[str, Json]] = JUDGMENTS) -> Imported:
    mapping = {"key": "id", "model_a": "one", "model_b": "other", "preference": "better", "scorer": "judge"}
    path = file(workspace, "judgments.jsonl", rows)
    return run(workspace.facts, file_job(path, "comparisons", mapping, "judgments", of))


def rows_of(facts: FactStore, table: FactTable) -> int:
    return facts.count(table, facts.heads()[table.name])


# --------------------------------------------------------------------------------- related files, one by one


def test_files_imported_one_after_another_find_each_other_by_keys(workspace: Workspace) -> None:
    prompts(workspace)
    done = answers(workspace)
    assert done.imported.outcomes == {"completions": {"imported": 3}}
    assert done.imported.prompts_source == "base"
    judged = judgments(workspace)
    assert judged.imported.outcomes == {"comparisons": {"imported": 1, "missing_completion": 1}}
    assert {what: n for what, n in judged.new.items() if n} == {"comparisons": 1}


def test_source_that_takes_its_prompts_from_a_feeding_one_feeds_the_same(workspace: Workspace) -> None:
    prompts(workspace)
    answers(workspace)
    assert judgments(workspace, of="answers").imported.prompts_source == "base"
    assert [i.source for i in feeding(workspace.facts, "base")] == ["base", "answers", "judgments"]


def test_files_of_one_import_are_the_same_facts_as_one_by_one(workspace: Workspace, tmp_path: Path) -> None:
    prompts(workspace)
    answers(workspace)
    judgments(workspace)
    together = Workspace.create(tmp_path / "together")
    by_key = {"key": "id"}
    compared = {"a": "one", "b": "other", "preference": "better", "scorer": "judge"}
    mapped: list[tuple[str, list[dict[str, Json]], dict[str, Json]]] = [
        ("base.jsonl", PROMPTS, {"prompt": {"text": "prompt", "key": "id", "answer": "answer"}}),
        ("answers.jsonl", ANSWERS, {"prompt": by_key, "completions": {"c": {"text": "text", "model": "model"}}}),
        ("judgments.jsonl", JUDGMENTS, {"prompt": by_key, "comparisons": [compared]}),
    ]
    tables = [{"path": str(file(workspace, name, rows)), **fields} for name, rows, fields in mapped]
    config = ImportConfig.model_validate({"name": "base", "tables": tables})
    import_tables(together.facts, config)
    for table in (TASKS, COMPLETIONS, COMPARISONS, CONFIGS):
        one, other = (set(w.facts.read(table, ["id"])["id"]) for w in (workspace, together))
        assert one == other


def test_ratings_find_completions_that_came_later(workspace: Workspace) -> None:
    prompts(workspace)
    answers(workspace, ANSWERS[:2])
    judgments(workspace)
    more = [*ANSWERS, {"id": "q", "model": "B", "text": "poor"}]
    answers(workspace, more)
    again = judgments(workspace)
    assert again.changed
    assert again.imported.outcomes == {"comparisons": {"imported": 2}}


def test_prompts_of_an_unknown_source_are_not_found(workspace: Workspace) -> None:
    prompts(workspace)
    with pytest.raises(NotFoundError, match="'bse' was never imported; did you mean 'base'"):
        answers(workspace, of="bse")


def test_source_cannot_take_its_prompts_from_itself(workspace: Workspace) -> None:
    prompts(workspace)
    answers(workspace)
    path = file(workspace, "base.jsonl", PROMPTS)
    for of in ("base", "answers"):
        with pytest.raises(RecipeError, match="import it under another name"):
            run(workspace.facts, file_job(path, "prompts", {"key": "id"}, "base", of))


# ---------------------------------------------------------------------------------------- a source mirrors its files


def test_unchanged_files_change_nothing(workspace: Workspace) -> None:
    first = [prompts(workspace), answers(workspace), judgments(workspace)]
    heads = workspace.facts.heads()
    again = [prompts(workspace), answers(workspace), judgments(workspace)]
    assert [done.imported for done in again] == [done.imported for done in first]
    assert not any(done.changed for done in again)
    assert workspace.facts.heads() == heads


def test_another_mapping_of_the_same_file_is_another_import(workspace: Workspace) -> None:
    path = file(workspace, "p.jsonl", [{"prompt": "Hi", "answer": "1", "other": "2"}])
    one = import_prompts(workspace.facts, path, {}, "p")
    two = import_prompts(workspace.facts, path, {"answer": "other"}, "p")
    assert (one.new["tasks"], two.new["tasks"], two.new["prompts"]) == (1, 1, 0)
    assert one.imported.fingerprint != two.imported.fingerprint


def test_file_moved_elsewhere_is_the_same_import(workspace: Workspace, tmp_path: Path) -> None:
    import_prompts(workspace.facts, file(workspace, "p.jsonl", PROMPTS), {}, "p")
    (tmp_path / "sub").mkdir()
    path = file(workspace, "sub/renamed.jsonl", PROMPTS)
    assert not import_prompts(workspace.facts, path, {}, "p").changed


def test_changed_file_replaces_what_the_source_holds_and_keeps_the_facts(workspace: Workspace) -> None:
    prompts(workspace)
    old = answers(workspace)
    new = answers(workspace, [*ANSWERS[1:], {"id": "q", "model": "B", "text": "new"}])
    facts = workspace.facts
    assert {what: n for what, n in new.new.items() if n} == {"completions": 1}
    assert len(held(facts, [new.imported], "completion_ids", None)) == 3
    assert len(held(facts, [old.imported, new.imported], "completion_ids", None)) == 4
    assert newest_import(facts, "answers") == new.imported


def test_corrected_rating_is_a_new_fact_and_the_source_holds_it_alone(workspace: Workspace) -> None:
    prompts(workspace)
    answers(workspace)
    judgments(workspace)
    corrected = judgments(workspace, rows=[{**JUDGMENTS[0], "better": 0.0}])
    facts = workspace.facts
    (current,) = held(facts, [corrected.imported], "comparison_ids", None)
    stored = facts.read(COMPARISONS, ["id", "preference", "completion_a"])
    assert stored.height == 2
    assert current in stored["id"].to_list()
    good = facts.read(COMPLETIONS, ["id", "policy_id", "prompt_id"], {"policy_id": "imported:A"})["id"].to_list()
    (row,) = stored.filter(pl.col("id") == current).to_dicts()
    assert row["preference"] == (0.0 if row["completion_a"] in good else 1.0)


class Interrupted:
    """A fact store that fails when a table is written."""

    def __init__(self, facts: FactStore, table: FactTable) -> None:
        self._facts, self._table = facts, table

    def __getattr__(self, name: str):
        return getattr(self._facts, name)

    def append(self, table: FactTable, rows: pa.Table) -> bytes:
        if table is self._table:
            raise KeyboardInterrupt
        return self._facts.append(table, rows)


@pytest.mark.parametrize("table", [SCORES, COMPLETIONS, IMPORTS])
def test_import_cut_short_holds_nothing_and_the_next_one_brings_only_the_rest(
    workspace: Workspace, table: FactTable
) -> None:
    rows = [{"prompt": "Hi", "completion": text, "score": n} for n, text in enumerate(("a", "b", "c"))]
    job = file_job(file(workspace, "s.jsonl", rows), "scores", {}, "rated")
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(workspace.facts, table), job)  # type: ignore[arg-type]
    assert newest_import(workspace.facts, "rated") is None
    done = run(workspace.facts, job)
    assert done.imported.outcomes == {
        "prompts": {"imported": 1, "duplicate": 2},
        "completions": {"imported": 3},
        "scores": {"imported": 3},
    }
    assert [rows_of(workspace.facts, t) for t in (TASKS, COMPLETIONS, SCORES)] == [1, 3, 3]
    assert done.new["scores"] == (0 if table is IMPORTS else 3)


def test_preview_writes_nothing(workspace: Workspace) -> None:
    prompts(workspace)
    heads = workspace.facts.heads()
    path = file(workspace, "answers.jsonl", ANSWERS)
    job = file_job(path, "completions", {"key": "id", "completion": "text"}, "answers", "base")
    assert previewed(workspace.facts, job).counts() == {"completions": {"imported": 3}}
    assert workspace.facts.heads() == heads


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("{bad\n", "none of its 1 rows can be read"),
        ('{"prompt": null}\n{"prompt": " "}\n{bad', "1 empty_prompt, 1 malformed, 1 missing_prompt"),
        ("\n\n", "expected rows"),
        ("{}\n", "expected rows"),
    ],
)
def test_file_without_a_usable_row_is_an_empty_dataset(workspace: Workspace, data: str, found: str) -> None:
    path = workspace.root.parent / "p.jsonl"
    path.write_text(data)
    with pytest.raises(SourceError, match=f"empty dataset.*{found}"):
        import_prompts(workspace.facts, path, {}, "p")
    assert newest_import(workspace.facts, "p") is None


def test_ratings_of_other_prompts_alone_are_an_empty_dataset(workspace: Workspace) -> None:
    prompts(workspace)
    rows = [{**row, "id": f"{row['id']}0"} for row in ANSWERS]
    with pytest.raises(SourceError, match=r"empty dataset: .*\(completions: 3 unknown_prompt\)"):
        answers(workspace, rows)


def test_refused_records_are_listed_with_their_file_and_row(workspace: Workspace) -> None:
    prompts(workspace)
    answers(workspace)
    judged = judgments(workspace)
    dropped = workspace.facts.read(IMPORTS, ["dropped"], {"id": judged.imported.id})["dropped"].explode().to_list()
    path = str(workspace.root.parent / "judgments.jsonl")
    assert dropped == [
        {
            "table": path, "what": "comparisons", "row": 2, "outcome": "missing_completion",
            "detail": "the prompt has no completion B",
        }
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- what builds read


def test_scorer_of_ratings_is_on_record_by_name(workspace: Workspace) -> None:
    prompts(workspace)
    answers(workspace)
    judgments(workspace)
    facts = workspace.facts
    (row,) = facts.read(CONFIGS, ["kind", "name", "config_id", "json"]).to_dicts()
    number = config_id("scorer", {"kind": "imported", "scorer": "gpt"})
    assert row == {"kind": "scorer", "name": "gpt", "config_id": number, "json": '{"kind":"imported","scorer":"gpt"}'}
    assert facts.read(COMPARISONS, ["scorer_id"])["scorer_id"].to_list() == [number]


def test_feeding_imports_are_the_newest_of_each_source(workspace: Workspace) -> None:
    prompts(workspace)
    prompts(workspace, PROMPTS[:1], "elsewhere")
    answers(workspace)
    old = judgments(workspace)
    newest = answers(workspace, ANSWERS[:2])
    found = feeding(workspace.facts, "base")
    assert [i.source for i in found] == ["base", "answers", "judgments"]
    assert found[1:] == (newest.imported, old.imported)
    assert [i.source for i in feeding(workspace.facts, "elsewhere")] == ["elsewhere"]


def test_imports_are_read_as_of_a_version(workspace: Workspace) -> None:
    first = prompts(workspace)
    at = workspace.facts.heads()[IMPORTS.name]
    prompts(workspace, PROMPTS[:1])
    answers(workspace)
    assert require_import(workspace.facts, "base", at) == first.imported
    assert feeding(workspace.facts, "base", at) == (first.imported,)


def test_imports_by_id_come_in_the_order_asked(workspace: Workspace) -> None:
    done = [prompts(workspace).imported, answers(workspace).imported]
    for asked in (done, done[::-1]):
        assert imports_by_id(workspace.facts, [i.id for i in asked], None) == tuple(asked)
    with pytest.raises(NotFoundError, match=r"import 0{32} is not in the workspace"):
        imports_by_id(workspace.facts, [bytes(16)], None)


def test_unknown_source_is_not_found_with_a_near_name(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="there is none yet, run `prefkit import`"):
        feeding(workspace.facts, "base")
    prompts(workspace)
    with pytest.raises(NotFoundError, match="did you mean 'base'"):
        feeding(workspace.facts, "bsae")


def test_tasks_are_those_of_the_source_then_new_ones_of_the_others(workspace: Workspace) -> None:
    prompts(workspace)
    rows = [{"prompt": "Hi", "completion": "a"}, {"prompt": "New", "completion": "b"}]
    path = file(workspace, "more.jsonl", rows)
    run(workspace.facts, file_job(path, "completions", {}, "more", "base"))
    tasks = source_tasks(workspace.facts, feeding(workspace.facts, "base"), workspace.facts.heads())
    assert tasks.columns == ["task_id", "prompt_id", "answer", "source", "split", "metadata", "messages"]
    told = [(m[0]["content"], a, s) for m, a, s in tasks.select("messages", "answer", "source").iter_rows()]
    assert told == [("Hi", "1", "base"), ("Ho", None, "base"), ("New", None, "more")]


def test_prompt_with_two_answers_is_two_tasks_of_its_source(workspace: Workspace) -> None:
    prompts(workspace, [{"id": "p", "prompt": "Hi", "answer": "1"}, {"id": "p", "prompt": "Hi", "answer": "2"}])
    tasks = source_tasks(workspace.facts, feeding(workspace.facts, "base"), workspace.facts.heads())
    assert tasks["answer"].to_list() == ["1", "2"]


def test_held_ids_of_nothing_are_none(workspace: Workspace) -> None:
    done = prompts(workspace)
    assert held(workspace.facts, [done.imported], "score_ids", None).to_list() == []
    assert held(workspace.facts, [], "task_ids", None).to_list() == []
