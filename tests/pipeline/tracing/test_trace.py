"""The stories of rows in a small workspace with failing draws, missing answers, retries and several versions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from prefkit.errors import NotFoundError, RecipeError
from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.tracing.story import CompletionStory
from prefkit.pipeline.tracing.telling import story_lines
from prefkit.pipeline.tracing.trace import row_story
from prefkit.pipeline.tracing.verdicts import RowKind, Verdict
from prefkit.records import COMPLETIONS, PROMPTS
from prefkit.sampling.fake import FakeSampler, Respond
from prefkit.sampling.protocol import Message, SampleFailureKind
from prefkit.store.lance_facts import STAMPS
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

UNANSWERED = "Tell me a number."
HOPELESS = "What is the largest number?"
FAILURES = {SampleFailureKind.TIMEOUT: 0.15, SampleFailureKind.REFUSED: 0.15}


def right_or_wrong(prompt: Sequence[Message], draw: int) -> str:
    """7, the answer of every answered problem, for half of the draws; else one of twenty wrong numbers."""
    return "7" if draw % 2 else str(1_000 + draw // 2 % 20)


def problems(answer: str = "7") -> list[dict[str, str | None]]:
    answered = [{"prompt": f"What is {i} + {7 - i}?", "answer": answer} for i in range(10)]
    return [*answered, {"prompt": UNANSWERED, "answer": None}, {"prompt": HOPELESS, "answer": "none"}]


@dataclass
class World:
    """A workspace, and builds in it with a fake sampler."""

    workspace: Workspace
    patch: pytest.MonkeyPatch

    def write(self, rows: Sequence[Mapping[str, str | None]]) -> None:
        path = self.workspace.root.parent / "problems.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def build(
        self,
        respond: Respond = right_or_wrong,
        failures: Mapping[SampleFailureKind, float] | None = None,
        n: int = 6,
        **blocks: object,
    ) -> Version:
        def opened(config: object, *_: object) -> FakeSampler:
            return FakeSampler(config, respond, failures)  # type: ignore[arg-type]

        self.patch.setattr("prefkit.pipeline.build.open_sampler", opened)
        base: dict[str, object] = {
            "name": "sevens",
            "prompts": {"path": "problems.jsonl"},
            "sample": {"backend": "fake", "n": n},
            "score": [{"kind": "verifier", "name": "exact"}],
            "select": {"kind": "correct_vs_incorrect"},
        }
        return build(Recipe.model_validate(base | blocks), self.workspace, self.workspace.root.parent).version


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(Workspace.create(tmp_path), monkeypatch)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """v1 with failures, v2 where passing ones were tried again, v3 of all pairs, v4 with more draws, v5 unpaired."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFKIT_WORKSPACE", raising=False)
        made = World(Workspace.create(tmp_path_factory.mktemp("world")), patch)
        made.write(problems())
        made.build(failures=FAILURES)
        made.build()
        made.build(select={"kind": "all_pairs"})
        made.build(n=8)
        made.build(select={"kind": "threshold", "desirable_at": 1.0})
        yield made


def version(world: World, number: int) -> Version:
    return world.workspace.versions.get(f"sevens@v{number}")


def outcomes(world: World, number: int, **values: str) -> pl.DataFrame:
    return version(world, number).outcomes().filter(**values).collect()


def completion_story(world: World, completion_id: bytes) -> CompletionStory:
    (told,) = row_story(world.workspace, completion_id.hex()).completions
    return told


def in_version(story: CompletionStory, number: int) -> tuple[Verdict, list[tuple[str, str]]]:
    (found,) = (v for v in story.versions if v.version == f"sevens@v{number}")
    return found.verdict, [(e.stage, e.outcome) for e in found.endings]


def test_story_of_a_selected_pair_tells_both_sides_and_the_decision(world: World) -> None:
    row = version(world, 1).frame().collect().row(0, named=True)
    story = row_story(world.workspace, row["pair_id"].hex())
    assert (story.kind, story.id, story.messages) == (RowKind.PAIR, row["pair_id"].hex(), row["prompt"])
    assert [task.answer for task in story.tasks] == ["7"]
    assert [c.key.id for c in story.completions] == [row["chosen_id"].hex(), row["rejected_id"].hex()]
    assert [c.draws[-1].completion for c in story.completions] == [row["chosen"], row["rejected"]]
    assert [c.scores[0].calls[0].score for c in story.completions] == [1.0, 0.0]
    decision = story.versions[0]
    assert (decision.version, decision.verdict) == ("sevens@v1", Verdict.SELECTED)
    assert (decision.placements[0].chosen_score, decision.placements[0].score_margin) == (1.0, 1.0)
    assert decision.select == version(world, 1).content["recipe"]["select"]  # type: ignore[index]


def test_story_of_a_completion_tells_sampler_policy_and_scorer(world: World) -> None:
    row = version(world, 1).frame().collect().row(0, named=True)
    story = completion_story(world, row["chosen_id"])
    assert (story.key.policy_id, story.key.policy_version) == ("fake:arithmetic", 0)
    assert story.sampler.name == "fake"
    assert story.sampler.values["temperature"] == 1.0  # type: ignore[index,call-overload]
    (score,) = story.scores
    assert (score.aspect, score.repeat, score.scorer.name) == ("exact", 0, "exact")
    assert score.scorer.values["name"] == "exact"  # type: ignore[index,call-overload]
    (draw,) = story.draws
    assert (draw.finish_reason, draw.tokens, draw.superseded) == ("stop", len(row["chosen_token_ids"]), False)


def test_story_of_a_duplicate_completion_names_the_stage_that_dropped_it(world: World) -> None:
    dropped = outcomes(world, 1, outcome="duplicate")["id"][0]
    story = completion_story(world, dropped)
    assert in_version(story, 1) == (Verdict.DROPPED, [("completion hygiene", "duplicate")])
    assert story.scores == ()


def test_story_of_a_final_failure_keeps_its_kind_and_detail(world: World) -> None:
    refused = outcomes(world, 1, outcome="refused")["id"][0]
    story = completion_story(world, refused)
    (draw,) = story.draws
    assert (draw.failure, draw.detail, draw.transient, draw.completion) == ("refused", "injected", False, None)
    assert in_version(story, 2) == (Verdict.DROPPED, [("sample", "refused")])


def test_story_of_a_draw_tried_again_holds_both_tries(world: World) -> None:
    timed_out = outcomes(world, 1, outcome="timeout")["id"][0]
    story = completion_story(world, timed_out)
    assert [(d.attempt, d.failure, d.superseded) for d in story.draws] == [(0, "timeout", True), (1, None, False)]
    assert in_version(story, 1) == (Verdict.DROPPED, [("sample", "timeout")])
    assert in_version(story, 2)[1] != [("sample", "timeout")]


def test_story_of_a_failed_label_tells_why_its_completion_was_not_selected(world: World) -> None:
    failed = outcomes(world, 1, stage="score")["id"][0]
    story = row_story(world.workspace, failed.hex())
    assert story.kind == RowKind.SCORE
    assert story.messages == [{"role": "user", "content": UNANSWERED}]
    (completion,) = story.completions
    (score,) = (s for s in completion.scores if s.id == failed.hex())
    assert [(c.score, c.failure) for c in score.calls] == [(None, "missing_input")]
    assert in_version(completion, 1) == (Verdict.NOT_SELECTED, [("score", "missing_input"), ("select", "unscored")])


def test_story_of_a_prompt_without_a_pair_tells_the_outcome_and_every_completion(world: World) -> None:
    hopeless = outcomes(world, 2, outcome="no_correct")["prompt_id"][0]
    story = row_story(world.workspace, hopeless.hex()[:12])
    assert story.kind == RowKind.PROMPT
    second = story.versions[1]
    assert (second.verdict, second.placements) == (Verdict.DROPPED, ())
    assert [(e.kind, e.stage, e.outcome) for e in second.endings] == [(RowKind.PROMPT, "select", "no_correct")]
    drawn = world.workspace.facts.read(COMPLETIONS, ["id"], {"prompt_id": hopeless})
    assert {c.key.id for c in story.completions} == {i.hex() for i in drawn["id"]}


def test_story_of_a_task_is_that_of_its_prompt(world: World) -> None:
    story = row_story(world.workspace, version(world, 1).frame().collect()["prompt_id"][0].hex())
    by_task = row_story(world.workspace, story.tasks[0].id)
    assert by_task.kind == RowKind.TASK
    assert (by_task.prompt_id, by_task.completions, by_task.versions) == (story.id, story.completions, story.versions)


def test_story_of_a_tied_pair_finds_its_sides(world: World) -> None:
    tied = outcomes(world, 3, outcome="tie")["id"][0]
    story = row_story(world.workspace, tied.hex())
    first, second = (c.scores[0].calls[0].score for c in story.completions)
    assert first == second
    (third,) = (v for v in story.versions if v.version == "sevens@v3")
    assert third.verdict == Verdict.DROPPED
    assert [(e.id, e.stage, e.outcome) for e in third.endings] == [(tied.hex(), "select rows", "tie")]


def test_story_of_a_draw_that_a_version_did_not_ask_for_says_so(world: World) -> None:
    late = world.workspace.facts.read(COMPLETIONS, ["id"], {"sample_index": 7})["id"][0]
    story = completion_story(world, late)
    assert [v.version for v in story.versions if v.verdict != Verdict.NOT_PLANNED] == ["sevens@v4"]


def test_story_of_a_completion_in_an_unpaired_version_tells_its_label(world: World) -> None:
    row = version(world, 5).frame().collect().row(0, named=True)
    (placement,) = completion_story(world, row["completion_id"]).versions[4].placements
    assert (placement.score, placement.label, placement.pair_id) == (row["score"], row["label"], None)


def test_verdicts_of_all_completions_agree_with_the_rows_of_the_version(world: World) -> None:
    rows = version(world, 1).frame().collect()
    selected = {i.hex() for side in ("chosen_id", "rejected_id") for i in rows[side]}
    dropped = {
        i.hex() for i in outcomes(world, 1).filter(pl.col("stage").is_in(["sample", "completion hygiene"]))["id"]
    }
    told = {Verdict.SELECTED: selected, Verdict.DROPPED: dropped}
    found: dict[Verdict, set[str]] = {}
    for prompt_id in world.workspace.facts.read(PROMPTS, ["id"])["id"]:
        for completion in row_story(world.workspace, prompt_id.hex()).completions:
            found.setdefault(completion.versions[0].verdict, set()).add(completion.key.id)
    assert {verdict: found[verdict] for verdict in told} == told


def test_story_of_a_pair_that_a_corrected_answer_turned_round(empty: World) -> None:
    one_or_two: Respond = lambda prompt, draw: "1" if draw % 2 else "2"  # noqa: E731
    empty.write([{"prompt": "One or two?", "answer": "1"}])
    (before,) = empty.build(one_or_two, n=20).frame().collect()["pair_id"]
    empty.write([{"prompt": "One or two?", "answer": "2"}])
    (after,) = empty.build(one_or_two, n=20).frame().collect()["pair_id"]
    story = row_story(empty.workspace, before.hex())
    assert [v.verdict for v in story.versions] == [Verdict.SELECTED, Verdict.NOT_SELECTED]
    assert [p.pair_id for p in story.versions[1].placements] == [after.hex()]
    assert [task.answer for task in story.tasks] == ["1", "2"]
    assert [[s.calls[0].score for s in c.scores] for c in story.completions] in (
        [[1.0, 0.0], [0.0, 1.0]],
        [[0.0, 1.0], [1.0, 0.0]],
    )


def test_story_of_a_prompt_over_the_limit_leaves_its_completions_out_of_the_plan(empty: World) -> None:
    empty.write(problems())
    empty.build()
    over = empty.build(prompts={"path": "problems.jsonl", "limit": 3}).outcomes().filter(outcome="over_limit").collect()
    story = row_story(empty.workspace, over["id"][0].hex())
    assert story.kind == RowKind.TASK
    assert story.versions[1].verdict == Verdict.DROPPED
    assert [(e.id, e.stage, e.outcome) for e in story.versions[1].endings] == [
        (over["id"][0].hex(), "prompt hygiene", "over_limit")
    ]
    assert {c.versions[1].verdict for c in story.completions} == {Verdict.NOT_PLANNED}
    assert Verdict.NOT_PLANNED not in {c.versions[0].verdict for c in story.completions}


def test_story_of_a_row_written_twice_marks_the_later_one_superseded(empty: World) -> None:
    empty.write(problems())
    empty.build()
    columns = [name for name in COMPLETIONS.schema.names if name not in STAMPS]
    row = empty.workspace.facts.read(COMPLETIONS, columns).head(1)
    other = row.with_columns(finish_reason=pl.lit("length"))
    fields = pa.schema([COMPLETIONS.schema.field(name) for name in columns])
    empty.workspace.facts.append(COMPLETIONS, other.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(fields))
    story = completion_story(empty, row["id"][0])
    assert [(d.finish_reason, d.superseded) for d in story.draws] == [("stop", False), ("length", True)]


def test_lines_fit_a_terminal_and_show_no_control_character_of_a_text(empty: World) -> None:
    steering: Respond = lambda prompt, draw: f"\x1b[2J{'so ' * 60}\n\u202e{draw}"  # noqa: E731
    empty.write(problems())
    rows = empty.build(
        steering,
        score=[{"kind": "verifier", "name": "length", "max": 200}],
        select={"kind": "threshold", "desirable_at": 2.0},
    )
    lines = story_lines(row_story(empty.workspace, rows.frame().collect()["completion_id"][0].hex()))
    assert max(map(len, lines)) <= 96
    assert all(line.isprintable() for line in lines)
    assert any(r"assistant: \x1b[2Jso so" in line for line in lines)


def test_lines_of_every_kind_of_row_tell_where_it_went(world: World) -> None:
    row = version(world, 1).frame().collect().row(0, named=True)
    pair, partner = row["pair_id"].hex()[:12], row["rejected_id"].hex()[:12]
    chosen = story_lines(row_story(world.workspace, row["chosen_id"].hex()))
    assert f"    chosen over {partner}, score margin 1 (1 against 0), pair {pair} in train" in chosen
    refused = story_lines(row_story(world.workspace, outcomes(world, 1, outcome="refused")["id"][0].hex()))
    assert any("failed, refused: injected (final)" in line for line in refused)


def test_story_as_json_is_plain_data_that_holds_every_part(world: World) -> None:
    pair = version(world, 1).frame().collect()["pair_id"][0].hex()
    told = json.loads(json.dumps(row_story(world.workspace, pair).to_json(), allow_nan=False))
    assert (told["kind"], told["id"], len(told["completions"]), len(told["versions"])) == ("pair", pair, 2, 5)
    assert told["completions"][0]["scores"][0]["calls"][0]["score"] == 1.0


@pytest.mark.parametrize("digits", [6, 7, 20, 31])
def test_row_story_takes_any_beginning_of_an_id(world: World, digits: int) -> None:
    pair = version(world, 1).frame().collect()["pair_id"][0].hex()
    assert row_story(world.workspace, pair[:digits].upper()).id == pair


@pytest.mark.parametrize("row_id", ["", "12345", "0x12345678", "hello world", "0" * 33])
def test_row_story_refuses_what_is_no_beginning_of_an_id(world: World, row_id: str) -> None:
    with pytest.raises(RecipeError, match="expected 6 to 32 hex digits"):
        row_story(world.workspace, row_id)


def test_row_story_of_an_id_that_nothing_has_raises_in_one_line(world: World) -> None:
    with pytest.raises(NotFoundError) as raised:
        row_story(world.workspace, "0" * 32)
    assert "\n" not in str(raised.value)


def test_row_story_of_an_ambiguous_beginning_names_the_candidates(empty: World) -> None:
    ids = [bytes.fromhex("abcdef") + bytes(12) + bytes([n]) for n in range(2)]
    columns = {"id": pa.array(ids, PROMPTS.schema.field("id").type)}
    columns["messages"] = pa.array([[{"role": "user", "content": "?"}]] * 2, PROMPTS.schema.field("messages").type)
    empty.workspace.facts.append(PROMPTS, pa.table(columns))
    with pytest.raises(RecipeError, match=f"fits 2 rows.*prompt {ids[0].hex()}, prompt {ids[1].hex()}"):
        row_story(empty.workspace, "abcdef")
    assert row_story(empty.workspace, ids[1].hex()).id == ids[1].hex()
