import json

import polars as pl

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.data import shift_data
from prefkit.shift.rendering import lines
from prefkit.shift.report import ShiftReport, crossed_words, report
from prefkit.shift.verdict import Limits
from tests.shift.builders import Reference, rows, samples, version

QUICK = Bootstrap(resamples=100)
GATED = Limits(max_off_support=0.10)


def made(**changes: float) -> ShiftReport:
    return report(version(200, sources=("a", "b"), chosen=changes), GATED, bootstrap=QUICK)


def test_report_is_the_same_again_and_for_shuffled_rows() -> None:
    data = version(200, sources=("a", "b"))
    shuffled = shift_data(data.rows.sample(fraction=1, shuffle=True, seed=3), data.samples.reverse())
    one, again, other = (report(of, GATED, bootstrap=QUICK).to_json() for of in (data, data, shuffled))
    assert json.dumps(one) == json.dumps(again)
    assert flat(one) == flat(other)


def test_json_has_no_number_that_json_does_not_know() -> None:
    reference = Reference.of(60, 0)
    one_prompt = rows(reference.draw(1, 1), "completion").head(1)
    found = report(shift_data(one_prompt, samples(reference.draw(4, 2))), GATED, bootstrap=QUICK)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["overall"]["sides"][0]["nll"]["low"] is None


def test_manifest_holds_no_prose_and_enough_to_say_what_was_crossed() -> None:
    found = made(unlikelier=2.0)
    content = json.loads(json.dumps(found.to_content()))
    assert [words for words in texts_in(content) if " " in words] == []
    assert (content["verdict"], content["passed"]) == ("sft_first", False)
    assert crossed_words(content) == [crossing.words for crossing in found.crossed] != []


def test_crossing_of_rows_of_one_prompt_is_told_without_an_interval() -> None:
    reference = Reference.of(60, 0)
    one_prompt = rows(reference.draw(1, 1, unlikelier=9.0), "completion").head(1)
    found = report(shift_data(one_prompt, samples(reference.draw(4, 2))), GATED, bootstrap=QUICK)
    assert "limit 0.1" in crossed_words(json.loads(json.dumps(found.to_content())))[0]


def test_lines_tell_completions_that_another_tokenizer_sampled() -> None:
    found = report(version(60), Limits(), bootstrap=QUICK, retokenised=2)
    assert "2 completions sampled by another tokenizer" in "\n".join(lines(found))
    assert max(len(line) for line in lines(found)) <= 100


def test_lines_tell_statistics_sources_verdict_and_gate() -> None:
    told = lines(made(unlikelier=2.0))
    text = "\n".join(told)
    assert told[0] == "200 rows of 200 prompts against 800 samples of the reference itself"
    assert "off-support by source" in text
    assert "verdict: SFT on chosen first" in text
    assert told[-1].startswith("gate: crossed: off-support share of chosen")
    assert max(len(line) for line in told) <= 100


def test_lines_leave_out_what_is_known_of_no_side() -> None:
    assert not [line for line in lines(made()) if "KL" in line or "effective" in line]


def test_lines_tell_staleness_and_rows_that_were_not_scored() -> None:
    reference = Reference.of(60, 0)
    drawn = rows(reference.draw(1, 1), "completion", staleness=[1, 3] * 30)
    unscored = pl.when(pl.col("row") == 0).then(None).otherwise(pl.col("logps"))
    data = shift_data(drawn.with_columns(logps=unscored), samples(reference.draw(4, 2)))
    text = "\n".join(lines(report(data, Limits(), bootstrap=QUICK)))
    assert "staleness: 2.02 optimizer steps on average, 3 at most" in text  # (29 x 1 + 30 x 3) / 59
    assert "1 completion could not be scored" in text
    assert text.endswith("gate: none in the recipe")


def texts_in(content: object) -> list[str]:
    """Every text of a JSON value that is no key."""
    match content:
        case str():
            return [content]
        case dict():
            return [text for value in content.values() for text in texts_in(value)]
        case list():
            return [text for value in content for text in texts_in(value)]
        case _:
            return []


def flat(report: object) -> str:
    """Numbers to four digits: the last ones depend on the order of addition."""
    match report:
        case float():
            return f"{report:.3g}" if abs(report) > 1e-9 else "0"
        case dict():
            return "{" + ",".join(f"{key}:{flat(value)}" for key, value in report.items()) + "}"
        case list():
            return "[" + ",".join(flat(value) for value in report) + "]"
        case _:
            return str(report)
