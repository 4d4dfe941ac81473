"""The stories of imported completions, and of what annotators said of them, in versions that ask for other things.

v1 is of what eve compared, v2 of what anybody compared but without dan's texts, v3 of eve's scores, v4 of comparisons
with bob as a baseline, and v5 is sampled.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefkit.pipeline.imports.importing import import_tables
from prefkit.pipeline.tracing.story import ComparisonStory, CompletionStory, Story
from prefkit.pipeline.tracing.telling import MOST_COMPARISONS, story_lines
from prefkit.pipeline.tracing.trace import row_story
from prefkit.pipeline.tracing.verdicts import RowKind, Verdict
from prefkit.records import COMPARISONS, COMPLETIONS
from prefkit.sources.config import ImportConfig
from prefkit.store.workspace import Workspace
from tests.pipeline.tracing.rated import (
    COLOUR,
    NUMBER,
    build_words,
    comparison_ids,
    completion_id,
    jsonl,
    rated_workspace,
    write_again,
)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFKIT_WORKSPACE", raising=False)
        workspace = rated_workspace(tmp_path_factory.mktemp("rated"))
        anybody = {"kind": "imported", "scorer": "*"}
        build_words(workspace)
        build_words(workspace, score=[anybody | {"name": "all"}], completions={"exclude": ["dan"]})
        build_words(workspace, select={"kind": "best_vs_worst"})
        against = [anybody | {"name": "vs_bob", "against": "bob"}]
        build_words(workspace, score=against, select={"kind": "best_vs_worst"})
        drawn = {"sample": {"backend": "fake", "n": 2}, "score": [{"kind": "fake"}]}
        build_words(workspace, select={"kind": "best_vs_worst"}, **drawn)
        yield workspace


def story(workspace: Workspace, row_id: str | bytes) -> Story:
    return row_story(workspace, row_id if isinstance(row_id, str) else row_id.hex())


def completion(workspace: Workspace, prompt: str, model: str) -> CompletionStory:
    (told,) = story(workspace, completion_id(workspace, prompt, model)).completions
    return told


def comparison(workspace: Workspace, prompt: str, one: str, other: str, annotator: str) -> ComparisonStory:
    sides = [completion_id(workspace, prompt, model) for model in (one, other)]
    told = [story(workspace, i).comparisons[0] for i in comparison_ids(workspace, *sides)]
    (found,) = (c for c in told if c.scorer.annotator == annotator)
    return found


def uses(told: ComparisonStory) -> dict[str, tuple[str, str]]:
    return {use.version: (use.entry, use.outcome) for use in told.uses}


def test_story_of_a_compared_pair_tells_comparisons_between_its_sides_first(rated: Workspace) -> None:
    ann, bob = (completion_id(rated, COLOUR, model) for model in ("ann", "bob"))
    (row,) = rated.versions.get("words@v1").frame().collect().to_dicts()
    told = story(rated, row["pair_id"])
    assert (told.kind, [c.key.id for c in told.completions]) == (RowKind.PAIR, [ann, bob])
    assert [c.model for c in told.completions] == ["ann", "bob"]
    assert [c.completion_ids == {ann, bob} for c in told.comparisons] == [True, True, False, False]
    assert {c.id for c in told.comparisons[:2]} == set(comparison_ids(rated, ann, bob))
    assert [v.verdict for v in told.versions[:2]] == [Verdict.SELECTED, Verdict.SELECTED]
    # 0.83 for ann: as far from its opposite as 2 * 0.83 - 1
    assert told.versions[0].placements[0].score_margin == pytest.approx(0.66)


def test_lines_of_a_comparison_tell_it_from_the_side_of_the_completion(rated: Workspace) -> None:
    ann, bob = (completion_id(rated, COLOUR, model) for model in ("ann", "bob"))
    of_ann, of_bob = (" ".join(story_lines(story(rated, side))) for side in (ann, bob))
    assert f"preferred 0.83 over {bob[:12]}, shown first" in of_ann
    assert f"not preferred, 0.25 against {bob[:12]}, shown second" in of_ann
    assert f"not preferred, 0.17 against {ann[:12]}, shown second" in of_bob
    assert f"preferred 0.75 over {ann[:12]}, shown first" in of_bob
    assert f"no preference between it and {completion_id(rated, COLOUR, 'dan')[:12]}, shown first" in of_bob
    assert "rationale: warmer" in of_ann


def test_lines_of_a_pair_name_its_sides(rated: Workspace) -> None:
    (row,) = rated.versions.get("words@v1").frame().collect().to_dicts()
    told = "\n".join(story_lines(story(rated, row["pair_id"])))
    between = told[told.index("compared with each other") : told.index("\nchosen ")]
    assert "chosen preferred 0.83 over rejected, shown first" in between
    assert "chosen not preferred, 0.25 against rejected, shown second" in between
    assert "counted in words@v1 as eve, words@v2 as all, words@v4 as vs_bob" in between


@pytest.mark.parametrize(
    ("sides", "annotator", "expected"),
    [
        (("ann", "bob"), "eve", {1: ("eve", "rated"), 2: ("all", "rated"), 4: ("vs_bob", "rated")}),
        (("ann", "bob"), "fay", {2: ("all", "rated"), 4: ("vs_bob", "rated")}),
        (("ann", "cyd"), "eve", {1: ("eve", "same_text"), 2: ("all", "same_text"), 4: ("vs_bob", "other_baseline")}),
        (("bob", "dan"), "eve", {1: ("eve", "rated"), 2: ("all", "dropped_completion"), 4: ("vs_bob", "rated")}),
    ],
)
def test_comparison_tells_what_became_of_it_in_each_version_that_asks_for_it(
    sides: tuple[str, str], annotator: str, expected: dict[int, tuple[str, str]], rated: Workspace
) -> None:
    told = comparison(rated, COLOUR, *sides, annotator)
    assert uses(told) == {f"words@v{number}": use for number, use in expected.items()}


def test_comparison_without_a_value_keeps_failure_and_cell(rated: Workspace) -> None:
    told = comparison(rated, NUMBER, "ann", "bob", "eve")
    (call,) = told.calls
    assert (call.preference, call.failure, call.raw) == (None, "unparsable", "???")
    assert uses(told)["words@v1"] == ("eve", "unparsable")
    lines = story_lines(story(rated, told.id))
    assert "      raw cell: ???" in lines
    assert "    ended as unparsable in words@v1 as eve, words@v2 as all, words@v4 as vs_bob" in lines


def test_story_of_a_comparison_tells_both_sides_and_their_pair(rated: Workspace) -> None:
    wanted = comparison(rated, COLOUR, "bob", "dan", "eve")
    told = story(rated, wanted.id[:8])
    assert (told.kind, told.id, told.comparisons) == (RowKind.COMPARISON, wanted.id, (wanted,))
    assert [c.key.id for c in told.completions] == [wanted.completion_a, wanted.completion_b]
    assert [v.verdict for v in told.versions] == [
        Verdict.DROPPED,  # a tie
        Verdict.DROPPED,  # dan's is left out
        Verdict.NOT_SELECTED,
        Verdict.NOT_SELECTED,
        Verdict.NOT_PLANNED,
    ]
    assert [(e.stage, e.outcome) for e in told.versions[0].endings] == [("select rows", "tie")]
    assert [(e.stage, e.outcome) for e in told.versions[1].endings] == [("imported completions", "other_model")]


def test_story_of_an_imported_completion_names_its_writer_and_no_sampler(rated: Workspace) -> None:
    told = completion(rated, NUMBER, "bob")
    assert (told.model, told.sampler, told.policy, told.copies) == ("bob", None, None, ())
    lines = story_lines(story(rated, told.key.id))
    assert "  imported, written by bob" in lines
    assert f"  imported at {told.draws[0].when}" in lines
    assert [line for line in lines if "sampler" in line or "draw " in line or "finished" in line] == []


def test_story_of_a_completion_that_a_version_leaves_out_names_the_stage(rated: Workspace) -> None:
    told = completion(rated, COLOUR, "dan").versions
    assert (told[1].verdict, [(e.stage, e.outcome) for e in told[1].endings]) == (
        Verdict.DROPPED,
        [("imported completions", "other_model")],
    )
    assert told[3].verdict == Verdict.SELECTED


def test_imported_completion_is_not_in_the_plan_of_a_version_that_samples(rated: Workspace) -> None:
    told = completion(rated, COLOUR, "ann")
    assert [v.verdict for v in told.versions] == [Verdict.SELECTED] * 4 + [Verdict.NOT_PLANNED]
    row = rated.versions.get("words@v5").frame().collect().row(0, named=True)
    (drawn,) = story(rated, row["chosen_id"]).completions
    assert drawn.model is None
    assert [v.verdict for v in drawn.versions] == [Verdict.NOT_PLANNED] * 4 + [Verdict.SELECTED]


def test_scores_of_a_copy_explain_the_score_of_the_completion_that_was_kept(rated: Workspace) -> None:
    """Eve gave 4 to ann's "red" and 2 to cyd's: the one that is kept has 3."""
    ann, cyd = (completion(rated, COLOUR, model) for model in ("ann", "cyd"))
    assert (ann.copies, cyd.copies) == ((cyd.key.id,), (ann.key.id,))
    counted = {s.completion_id: s.calls[0].score for s in ann.scores}
    assert counted == {ann.key.id: 4, cyd.key.id: 2}
    assert {(u.version, u.outcome) for s in ann.scores for u in s.uses} == {("words@v3", "rated")}
    assert ann.versions[2].placements[0].chosen_score == 3
    assert [(e.stage, e.outcome) for e in cyd.versions[2].endings] == [("completion hygiene", "duplicate")]


def test_story_of_an_unparsable_score_tells_what_stood_there(rated: Workspace) -> None:
    (score,) = completion(rated, NUMBER, "ann").scores
    told = story(rated, score.id)
    assert told.kind == RowKind.SCORE
    (call,) = told.completions[0].scores[0].calls
    assert (call.score, call.failure, call.raw) == (None, "unparsable", "no idea")
    assert [(u.version, u.entry, u.outcome) for u in score.uses] == [("words@v3", "eve", "unparsable")]


def test_lines_of_a_prompt_tell_each_compared_pair_once(rated: Workspace) -> None:
    prompt_id = story(rated, completion_id(rated, COLOUR, "ann")).prompt_id
    lines = [line for line in story_lines(story(rated, prompt_id)) if line.startswith("  preference for ")]
    ann, bob = sorted(completion_id(rated, COLOUR, model) for model in ("ann", "bob"))
    assert len(lines) == 3
    (told,) = (line for line in lines if f"{ann[:12]} over {bob[:12]}: " in line)
    assert sorted(told.split(": ")[1].split("; ")) == ["overall 0.25 by fay", "overall 0.83 by eve"]


def test_comparison_written_twice_marks_the_later_one_superseded(tmp_path: Path) -> None:
    workspace = rated_workspace(tmp_path)
    told = comparison(workspace, COLOUR, "bob", "dan", "eve")
    write_again(workspace, COMPARISONS, bytes.fromhex(told.id), preference=0.9)
    again = story(workspace, told.id).comparisons[0]
    assert [(c.preference, c.superseded) for c in again.calls] == [(0.5, False), (0.9, True)]
    assert any(", superseded: " in line for line in story_lines(story(workspace, told.id)))


def test_completion_written_twice_marks_the_later_one_superseded(tmp_path: Path) -> None:
    workspace = rated_workspace(tmp_path)
    bob = completion_id(workspace, COLOUR, "bob")
    write_again(workspace, COMPLETIONS, bytes.fromhex(bob), finish_reason="stop")
    (told,) = story(workspace, bob).completions
    assert [(d.finish_reason, d.superseded) for d in told.draws] == [(None, False), ("stop", True)]


def test_rating_that_no_version_asks_for_says_so(tmp_path: Path) -> None:
    workspace = rated_workspace(tmp_path)
    build_words(workspace, score=[{"kind": "imported", "scorer": "fay"}])
    told = comparison(workspace, COLOUR, "bob", "dan", "eve")
    assert told.uses == ()
    assert "    no version asks for it" in story_lines(story(workspace, told.id))


def test_what_a_newer_import_lacks_is_not_in_the_plan_of_versions_made_from_it(tmp_path: Path) -> None:
    workspace = rated_workspace(tmp_path)
    build_words(workspace)
    rated_workspace(tmp_path, without="dan")
    build_words(workspace)
    told = completion(workspace, COLOUR, "dan")
    assert [v.verdict for v in told.versions] == [Verdict.NOT_SELECTED, Verdict.NOT_PLANNED]
    assert list(uses(comparison(workspace, COLOUR, "bob", "dan", "eve"))) == ["words@v1"]


def test_many_comparisons_of_a_completion_are_counted_and_all_in_json(tmp_path: Path) -> None:
    """Another source compares ann's and bob's texts 30 times over; versions of the first source read it as well."""
    workspace = rated_workspace(tmp_path)
    rows = [{"id": "number", "a": "ann", "b": "bob", "by": f"judge-{i}", "preference": 0.9} for i in range(30)]
    said = {"a": "a", "b": "b", "scorer": "by", "preference": "preference"}
    table = jsonl(tmp_path, "more", rows) | {"prompt": {"key": "id"}, "comparisons": [said]}
    config = {"name": "more", "prompts_from": "words", "tables": [table]}
    import_tables(workspace.facts, ImportConfig.model_validate(config))
    build_words(workspace, score=[{"kind": "imported", "scorer": "judge-*", "name": "judges"}])
    told = story(workspace, completion_id(workspace, NUMBER, "ann"))
    assert len(told.comparisons) == 31
    judged = [c for c in told.comparisons if c.scorer.annotator != "eve"]
    assert {uses(c)["words@v1"] for c in judged} == {("judges", "rated")}
    lines = story_lines(told)
    assert sum(line.startswith("  comparison ") for line in lines) == MOST_COMPARISONS
    assert f"  and {31 - MOST_COMPARISONS} comparisons more: all of them with --json" in lines
