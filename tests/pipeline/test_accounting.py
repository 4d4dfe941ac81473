"""Whatever comes in and whatever fails, every planned key ends in one outcome and no pair is mislabelled."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import prefkit.pipeline.build as pipeline
import prefkit.pipeline.completions as completion_stage
from prefkit.errors import LedgerError, SourceError
from prefkit.pipeline.build import Built
from prefkit.records import COMPLETIONS, SCORES
from prefkit.sampling.fake import FakeSampler
from prefkit.sampling.protocol import Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.scoring.fake import FakeScorer
from prefkit.scoring.protocol import Score, ScoreFailureKind, ScoreRequest
from prefkit.store.verify import verify
from prefkit.store.workspace import Workspace
from tests.pipeline.builders import built, problems, recipe, workspace_in, write_problems

ODD_TEXTS = [
    "", " ", "\n\n", "\u200b", "plain", "Ünï çødé", "日本語のテキスト", "🙂🙃", "a\u0301", "\u202egnol",
    "cafÃ© crÃ¨me", "\ufffd", "<|im_end|>",
    "x" * 60_000, "line\r\nline", "\x00null", "\x1b[31mred",
    "'quote' \"double\" \\back", "{\"json\": true}", "0", "-0.0", "NaN",
]  # fmt: skip


@contextmanager
def workers(sampler: FakeSampler | None = None, scorer: FakeScorer | None = None) -> Iterator[None]:
    """Runs builds with these in place of the recipe's own; the recipe still names and identifies them."""
    real = pipeline.open_sampler, pipeline.open_scorer
    try:
        if sampler:
            pipeline.open_sampler = lambda *_: sampler
        if scorer:
            pipeline.open_scorer = lambda *_: scorer
        yield
    finally:
        pipeline.open_sampler, pipeline.open_scorer = real


def check_account(built: Built, workspace: Workspace, n: int) -> None:
    """Recounts the whole account from the rows themselves."""
    version = built.version
    ledger = {a["stage"]: a for a in version.content["ledger"]}
    for account in ledger.values():
        assert sum(account["outcomes"].values()) == account["planned"], account
    rows = version.frame().collect()
    dropped = version.outcomes().collect()
    assert ledger["sample"]["planned"] == n * ledger["prompt hygiene"]["kept"]
    assert rows.height == ledger["version"]["kept"]
    for stage in ("prompt hygiene", "sample", "completion hygiene", "score", "select", "pair hygiene"):
        lost = ledger[stage]["planned"] - ledger[stage]["kept"]
        assert dropped.filter(pl.col("stage") == stage).height == lost, stage
    prompt_of = dict(workspace.facts.read(COMPLETIONS, ["id", "prompt_id"]).iter_rows())
    score_of = dict(workspace.facts.read(SCORES, ["completion_id", "score"], {"aspect": "fake"}).iter_rows())
    for pair in rows.iter_rows(named=True):
        assert prompt_of[pair["chosen_id"]] == prompt_of[pair["rejected_id"]] == pair["prompt_id"]
        assert pair["chosen"][-1]["content"].strip() != pair["rejected"][-1]["content"].strip()
        assert score_of[pair["chosen_id"]] > score_of[pair["rejected_id"]]
        assert math.isclose(
            pair["score_margin"], score_of[pair["chosen_id"]] - score_of[pair["rejected_id"]], abs_tol=1e-8
        )


FAKE_SCORE = [{"kind": "fake", "aspect": "fake"}]


# No shrinking: an example is a whole build, and the failing one is small enough to read.
@settings(max_examples=25, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "prompt": st.one_of(
                    st.none(),
                    st.sampled_from(ODD_TEXTS),
                    st.text(max_size=20),
                    st.integers(),
                    st.lists(st.none(), max_size=2),
                )
            },
            optional={
                "answer": st.one_of(st.none(), st.integers(), st.sampled_from(ODD_TEXTS)),
                "split": st.sampled_from(["train", "test", "dev"]),
            },
        ),
        min_size=1,
        max_size=25,
    ),
    answers=st.lists(st.sampled_from(ODD_TEXTS), min_size=1, max_size=6),
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, -3.0, 1e300, math.nan, math.inf]), min_size=1, max_size=5),
    lost=st.sampled_from([0.0, 0.2, 0.7]),
    n=st.integers(1, 5),
    select=st.sampled_from(
        [
            {"kind": "best_vs_worst"},
            {"kind": "all_pairs", "max_length_ratio": 3.0},
            {"kind": "correct_vs_incorrect", "per_prompt": None},
            {"kind": "best_vs_random", "per_source": 3},
        ]
    ),
)
def test_any_input_and_any_failure_is_accounted_for(
    rows: list[dict[str, object]],
    answers: list[str],
    values: list[float],
    lost: float,
    n: int,
    select: dict[str, object],
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_problems(folder, [*rows, *problems(3)])
        workspace = Workspace.create(folder)
        sample = {"backend": "fake", "n": n, "batch_size": 7}
        config = recipe(sample=sample).sample[0]
        sampler = FakeSampler(
            config,  # type: ignore[arg-type]
            respond=lambda _, draw: answers[draw % len(answers)],
            failures={SampleFailureKind.TIMEOUT: lost / 2, SampleFailureKind.PROMPT_TOO_LONG: lost / 2},
        )
        scorer = FakeScorer(
            value=lambda r: values[r.completion_id[0] % len(values)],
            failures={ScoreFailureKind.UNDECIDED: lost / 2, ScoreFailureKind.CONNECTION: lost / 2},
            batch_size=5,
        )
        with workers(sampler, scorer):
            first = built(workspace, sample=sample, score=FAKE_SCORE, select=select)
        check_account(first, workspace, n)
        asked = {(r.completion_id, r.aspect) for r in scorer.requests}
        assert len(asked) == len(scorer.requests) == first.labelled


def test_a_transient_failure_is_retried_by_the_next_build_and_a_final_one_is_not(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    config = recipe().sample[0]
    broken = FakeSampler(config, failures={SampleFailureKind.CONNECTION: 0.3, SampleFailureKind.REFUSED: 0.2})  # type: ignore[arg-type]
    with workers(broken):
        first = built(workspace, score=FAKE_SCORE, select={"kind": "best_vs_worst"})
    ledger = first.version.content["ledger"][2]["outcomes"]
    assert ledger["connection"] > 0
    assert ledger["refused"] > 0
    second = built(workspace, score=FAKE_SCORE, select={"kind": "best_vs_worst"})
    assert second.drawn == ledger["connection"]
    assert second.version.content["ledger"][2]["outcomes"] == {
        "sampled": 120 - ledger["refused"],
        "refused": ledger["refused"],
    }
    assert not built(workspace, score=FAKE_SCORE, select={"kind": "best_vs_worst"}).new
    attempts = workspace.facts.read(COMPLETIONS, ["attempt"])["attempt"].value_counts()
    assert dict(attempts.iter_rows()) == {0: 120, 1: ledger["connection"]}


def test_a_transient_failure_of_a_scorer_is_retried_and_only_it(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    with workers(scorer=FakeScorer(failures={ScoreFailureKind.TIMEOUT: 0.4})):
        first = built(workspace, score=FAKE_SCORE, select={"kind": "best_vs_worst"})
    timeouts = first.version.content["ledger"][4]["outcomes"]["timeout"]
    healthy = FakeScorer()
    with workers(scorer=healthy):
        second = built(workspace, score=FAKE_SCORE, select={"kind": "best_vs_worst"})
    assert second.labelled == len(healthy.requests) == timeouts > 0
    assert second.version.content["to_retry"] == 0


def test_retry_of_a_final_failure_kind_opens_it_again(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    blocks = {"score": FAKE_SCORE, "select": {"kind": "best_vs_worst"}}
    with workers(scorer=FakeScorer(failures={ScoreFailureKind.UNPARSABLE: 0.5})):
        unparsable = built(workspace, **blocks).version.content["ledger"][4]["outcomes"]["unparsable"]
    assert built(workspace, **blocks).labelled == 0
    retried = pipeline.build(recipe(**blocks), workspace, tmp_path, retry=["unparsable"])
    assert retried.labelled == unparsable
    assert retried.version.content["ledger"][4]["outcomes"] == {
        "scored": retried.version.content["ledger"][4]["planned"]
    }


def test_one_lost_row_refuses_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = workspace_in(tmp_path)
    monkeypatch.setattr(
        "prefkit.pipeline.stages.cleaned", lambda draws, hygiene: completion_stage.cleaned(draws, hygiene)[1:]
    )
    with pytest.raises(LedgerError, match=r"'completion hygiene' ended 119 completions .* expected 120"):
        built(workspace)
    assert workspace.versions.names() == []
    monkeypatch.undo()
    assert built(workspace).drawn == 0
    assert verify(workspace).damages == []


def test_one_doubled_row_refuses_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prefkit.pipeline.stages as stages

    workspace = workspace_in(tmp_path)
    real = stages.known_labels

    def doubled(*args: object) -> list[pl.DataFrame]:
        return [pl.concat([keys, keys[-1:]]) for keys in real(*args)]  # type: ignore[arg-type]

    built(workspace)
    monkeypatch.setattr(stages, "known_labels", doubled)
    with pytest.raises(LedgerError, match="'score' ended"):
        built(workspace, select={"kind": "best_vs_worst"})


@pytest.mark.parametrize("fault", ["missing", "doubled", "foreign"])
def test_a_sampler_that_answers_wrongly_is_refused_and_keeps_what_was_right(tmp_path: Path, fault: str) -> None:
    class Faulty(FakeSampler):
        def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
            batches = list(super().sample(requests))
            yield batches[0]
            match fault:
                case "missing":
                    return
                case "doubled":
                    yield batches[0]
                case _:
                    yield next(super().sample([SampleRequest(bytes(16), [])]))

    workspace = workspace_in(tmp_path)
    with workers(Faulty(recipe().sample[0])), pytest.raises(LedgerError, match="sampler"):  # type: ignore[arg-type]
        built(workspace)
    assert built(workspace).drawn == 120 - 16


def test_an_exception_in_the_middle_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    class Dies(FakeSampler):
        def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
            for number, batch in enumerate(super().sample(requests)):
                if number == 3:
                    raise RuntimeError("out of memory")
                yield batch

    workspace = workspace_in(tmp_path)
    with workers(Dies(recipe().sample[0])), pytest.raises(RuntimeError, match="out of memory"):  # type: ignore[arg-type]
        built(workspace)
    assert built(workspace).drawn == 120 - 3 * 16


def test_one_completion_per_prompt_gives_no_pair_and_says_why(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    version = built(workspace, sample={"backend": "fake", "n": 1}, select={"kind": "best_vs_worst"}).version
    assert version.splits == {"train": 0}
    assert version.content["ledger"][5]["outcomes"] == {"one_completion": 20}


def test_conflicting_answers_of_one_prompt_drop_both(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, 5)
    rows = problems(5)
    write_problems(tmp_path, [*rows, rows[0] | {"answer": 12345}, rows[1]])
    version = built(workspace).version
    assert version.content["ledger"][0]["outcomes"] == {"duplicate": 1, "imported": 6}
    assert version.content["ledger"][1]["outcomes"] == {"kept": 4, "conflicting_answer": 2}


def test_a_file_without_one_usable_prompt_is_refused(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    write_problems(tmp_path, [{"prompt": " "}, {"prompt": None}])
    with pytest.raises(SourceError):
        built(workspace)


def test_a_score_that_is_no_finite_number_is_a_failure_not_a_score(tmp_path: Path) -> None:
    class Odd(FakeScorer):
        def _row(self, request: ScoreRequest) -> Score:
            return Score(request.completion_id, request.aspect, request.repeat, math.nan)

    workspace = workspace_in(tmp_path)
    with workers(scorer=Odd()):
        version = built(workspace, score=FAKE_SCORE, select={"kind": "best_vs_worst"}).version
    assert set(version.content["ledger"][4]["outcomes"]) == {"unparsable"}
    assert version.content["ledger"][5]["outcomes"] == {"unscored": 20}


def test_dropped_completions_are_named_by_the_ids_of_their_facts(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    dropped = built(workspace).version.outcomes().collect()
    named = set(dropped.filter(pl.col("stage") == "completion hygiene")["id"])
    assert named
    assert named < set(workspace.facts.read(COMPLETIONS, ["id"])["id"])
