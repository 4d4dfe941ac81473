"""Judges over a scripted transport: every request ends in one row, under its own key."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.scoring.judge.aspects import AspectJudge
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.pairwise import PairwiseJudge
from prefkit.scoring.judge.rubric import Aspect
from prefkit.scoring.protocol import (
    Comparison,
    ComparisonFailure,
    ComparisonRequest,
    Score,
    ScoreFailure,
    ScoreFailureKind,
    ScoreRequest,
)
from tests.scoring.judge.builders import SPENT, ScriptedTransport, aspect, pair, reply, request

TIMEOUT = CallFailure(ScoreFailureKind.TIMEOUT, "no answer in 60 s")
BOTH = [aspect("tone"), aspect("depth", best=1)]
KINDS = list(ScoreFailureKind)


def judge(groups: Sequence[Sequence[Aspect]], transport: ScriptedTransport, scorer_id: int = 7) -> AspectJudge:
    return AspectJudge(groups, transport, scorer_id=scorer_id, seed=0, max_tokens=256)


def comparer(transport: ScriptedTransport) -> PairwiseJudge:
    return PairwiseJudge([aspect()], transport, scorer_id=7, seed=0, max_tokens=256)


def scored(judge: AspectJudge, asked: Sequence[ScoreRequest]) -> dict[tuple[bytes, str, int], Score | ScoreFailure]:
    rows = [row for batch in judge.score(asked) for row in batch]
    found = {(row.completion_id, row.aspect, row.repeat): row for row in rows}
    assert len(found) == len(rows) == len(asked)
    return found


def compared(judge: PairwiseJudge, asked: Sequence[ComparisonRequest]) -> list[Comparison | ComparisonFailure]:
    rows = [row for batch in judge.compare(asked) for row in batch]
    return sorted(rows, key=lambda row: (row.order, row.repeat))


def by_name(call: Call) -> Reply:
    """Level 5 for what `call` asks about tone, 2 for depth."""
    return reply("Score: 5" if "tone" in call.messages[0]["content"] else "Score: 2")


def test_judge_with_a_call_for_each_aspect_scores_each_by_its_own_direction() -> None:
    transport = ScriptedTransport(by_name)
    rows = scored(judge([[a] for a in BOTH], transport), [request(aspect="tone"), request(aspect="depth")])
    assert len(transport.sent) == 2
    assert {key[1]: row.score for key, row in rows.items() if isinstance(row, Score)} == {"tone": 5, "depth": 4}
    assert {row.raw for row in rows.values()} == {"Score: 5", "Score: 2"}


def test_judge_with_one_call_for_all_fails_the_missing_aspect_alone_and_counts_the_call_once() -> None:
    transport = ScriptedTransport(lambda call: reply('{"depth": {"rationale": "Deep.", "score": 2}}'))
    asked = [request(aspect=name, number=n) for n in (0, 1) for name in ("tone", "depth")]
    rows = scored(judge([BOTH], transport), asked)
    assert len(transport.sent) == 2
    for number in (0, 1):
        tone, depth = (rows[number.to_bytes(16, "big"), name, 0] for name in ("tone", "depth"))
        assert isinstance(depth, Score)
        assert isinstance(tone, ScoreFailure)
        assert (depth.score, depth.rationale, tone.kind) == (4, "Deep.", "unparsable")
        assert (tone.raw, depth.raw) == (tone.raw, tone.raw)
        assert [tone.input_tokens, depth.input_tokens] == [SPENT.input_tokens, 0]
        assert [tone.cost, depth.cost] == [SPENT.cost, 0.0]


def test_judge_with_one_call_for_all_asks_about_all_when_one_is_wanted() -> None:
    transport = ScriptedTransport(lambda call: reply('{"tone": 5, "depth": 1}'))
    whole, part = judge([BOTH], transport), judge([BOTH], transport)
    scored(whole, [request(aspect="tone"), request(aspect="depth")])
    (row,) = scored(part, [request(aspect="depth")]).values()
    assert isinstance(row, Score)
    assert (row.score, row.input_tokens) == (5, SPENT.input_tokens)
    assert transport.sent[0] == transport.sent[1]


def test_judge_shows_the_reference_answer_to_those_that_have_one() -> None:
    transport = ScriptedTransport(lambda call: reply("Score: 3"))
    with_answer, without = request(number=0), request(number=1)
    with_answer = ScoreRequest(*(b"0" * 16, "quality", 0), with_answer.prompt, "Four.", {"answer": "Exactly 4."})
    scored(judge([[aspect()]], transport), [with_answer, without])
    assert ["Exactly 4." in call.messages[0]["content"] for call in transport.sent] == [True, False]


def test_judge_turns_a_failed_call_into_a_failure_of_its_rows_alone() -> None:
    spoilt = CallFailure(ScoreFailureKind.CONNECTION, "status 500", raw="<html>", spent=SPENT)
    answers = {0: TIMEOUT, 1: spoilt, 2: reply("Score: 3")}
    transport = ScriptedTransport(lambda call: answers[int(call.messages[0]["content"].split("number ")[1][0])])
    rows = scored(judge([[aspect()]], transport), [request(f"number {n}", number=n) for n in range(3)])
    timeout, broken, good = (rows[n.to_bytes(16, "big"), "quality", 0] for n in range(3))
    assert isinstance(timeout, ScoreFailure)
    assert isinstance(broken, ScoreFailure)
    assert isinstance(good, Score)
    assert (timeout.kind, timeout.detail, timeout.cost) == (ScoreFailureKind.TIMEOUT, "no answer in 60 s", None)
    assert (broken.kind, broken.raw, broken.cost) == (ScoreFailureKind.CONNECTION, "<html>", SPENT.cost)


def test_judge_keeps_a_reply_that_utf_8_cannot_write() -> None:
    transport = ScriptedTransport(lambda call: reply('{"rationale": "half a pair \\ud83d", "score": 3}'))
    (row,) = scored(judge([[aspect()]], transport), [request()]).values()
    assert isinstance(row, Score)
    assert row.rationale == "half a pair ?"
    transport = ScriptedTransport(lambda call: reply("Score: 3 \ud83d"))
    (row,) = scored(judge([[aspect()]], transport), [request()]).values()
    assert row.raw == "Score: 3 ?"


def test_calls_have_distinct_ids_and_seeds_that_are_the_same_in_every_build() -> None:
    first, again, other = (ScriptedTransport(lambda call: reply("Score: 3")) for _ in range(3))
    asked = [request(text, repeat=r, number=n) for n, text in enumerate(("Four.", "4", "4")) for r in range(3)]
    for transport, scorer_id in ((first, 7), (again, 7), (other, 8)):
        scored(judge([[aspect()]], transport, scorer_id), asked)
    names, seeds = [call.id for call in first.sent], [call.seed for call in first.sent]
    assert len(set(names)) == len(set(seeds)) == len(asked)
    assert first.sent == again.sent
    assert not {call.id for call in other.sent} & set(names)
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)


def test_judge_of_no_requests_gives_no_rows() -> None:
    transport = ScriptedTransport(by_name)
    assert list(judge([BOTH], transport).score([])) == []
    assert list(comparer(transport).compare([])) == []


@given(st.lists(st.sampled_from(["Score: 4", '{"tone": 3}', "", "I'm sorry.", *KINDS]), max_size=8), st.booleans())
def test_judge_answers_every_request_once_and_its_costs_add_up(script: list[str], together: bool) -> None:
    answers = [CallFailure(x, "") if isinstance(x, ScoreFailureKind) else reply(x) for x in script]
    transport = ScriptedTransport(lambda call: answers[int(call.messages[0]["content"].split("number ")[1][0])])
    groups = [BOTH] if together else [[a] for a in BOTH]
    asked = [request(f"number {n}", a.name, number=n) for n in range(len(script)) for a in BOTH]
    rows = scored(judge(groups, transport), asked)
    assert {row.completion_id for row in rows.values()} == {r.completion_id for r in asked}
    replies = sum(isinstance(answer, Reply) for answer in answers) * len(groups)
    assert sum(row.output_tokens or 0 for row in rows.values()) == replies * SPENT.output_tokens
    assert sum(row.cost or 0.0 for row in rows.values()) == pytest.approx(replies * 0.1)


def likes_four(call: Call) -> Reply:
    """Slightly prefers the completion that says four, wherever it stands."""
    shown = call.messages[0]["content"].split("<completion A ")[1].split("\n")[1]
    return reply('{"rationale": "Four is right.", "verdict": "%s"}' % ("A>B" if shown == "Four." else "B>A"))


def test_preference_is_for_completion_a_whichever_was_shown_first() -> None:
    asked = [pair("Four.", "Five.", order) for order in ("ab", "ba")]
    rows = compared(comparer(ScriptedTransport(likes_four)), asked)
    assert [(row.order, row.preference) for row in rows if isinstance(row, Comparison)] == [("ab", 0.75), ("ba", 0.75)]
    asked = [pair("Five.", "Four.", order) for order in ("ab", "ba")]
    rows = compared(comparer(ScriptedTransport(likes_four)), asked)
    assert [row.preference for row in rows if isinstance(row, Comparison)] == [0.25, 0.25]


def test_preference_of_a_judge_that_always_takes_the_first_turns_with_the_order() -> None:
    rows = compared(comparer(ScriptedTransport(lambda call: reply("[[A]]"))), [pair("x", "y", o) for o in ("ab", "ba")])
    assert [row.preference for row in rows if isinstance(row, Comparison)] == [1, 0]


def test_comparison_that_fails_is_a_row_with_its_kind_and_reply() -> None:
    answers = [reply("Both are fine."), TIMEOUT, reply("[[A]]", finish_reason="length")]
    transport = ScriptedTransport(lambda call: answers[int(call.messages[0]["content"].split("number ")[1][0])])
    rows = compared(comparer(transport), [pair(f"number {n}", "y", repeat=n) for n in range(3)])
    kinds = [row.kind if isinstance(row, ComparisonFailure) else None for row in rows]
    assert kinds == [ScoreFailureKind.UNPARSABLE, ScoreFailureKind.TIMEOUT, ScoreFailureKind.CUT_OFF]
    assert [row.raw for row in rows] == ["Both are fine.", None, "[[A]]"]


def test_comparisons_of_equal_texts_in_both_orders_are_distinct_calls() -> None:
    transport = ScriptedTransport(lambda call: reply("[[C]]"))
    rows = compared(comparer(transport), [pair("x", "x", o, r) for o in ("ab", "ba") for r in range(2)])
    assert len(rows) == len({call.id for call in transport.sent}) == 4
