"""Every planted fault is found, with the right number of rows, and nothing else is."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from prefkit.pipeline.doctor.checkup import Checkup, checkup
from prefkit.pipeline.doctor.endpoints import Answer, Place, verdict
from prefkit.pipeline.doctor.examine import examine
from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Severity
from prefkit.pipeline.doctor.folding import folded
from prefkit.pipeline.doctor.leakage import RUN, shares_of_runs
from prefkit.pipeline.doctor.lengths import max_length
from prefkit.pipeline.forecast import Forecast
from prefkit.store.workspace import Workspace
from prefkit.testing import FakeEndpoint, Script
from prefkit.testing.loopback import Answer as Reply
from prefkit.testing.loopback import LoopbackServer, Request
from tests.pipeline import builders
from tests.pipeline.ailing import POLICY, PROMPTS, Row, found, only, recipe, rows, sentence, told

pytest.importorskip("transformers")

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
KEY = "sk-0123456789abcdef"
LEAKY = (
    "{% set last = messages[-1] %}<|user|>{% if last['role'] == 'assistant' %}[{{ last['content'][:1] }}]{% endif %}"
    "{{ messages[0]['content'] }}<|end|><|assistant|>"
    "{% if last['role'] == 'assistant' %}{{ last['content'] }}<|end|>{% endif %}"
)
"""Writes the beginning of the answer into the question."""
PLAIN = (
    "{% for m in messages %}{% if 'lamp 99' in m['content'] %}{{ raise_exception('no lamps') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def with_rows(*more: Row) -> list[Row]:
    return [*rows(), *more]


def row(prompt: str, answer: str = "1", split: str = "train") -> Row:
    return {"prompt": prompt, "answer": answer, "split": split}


def judge(url: str, **settings: object) -> dict[str, object]:
    return {"kind": "judge", "mode": "aspects", "endpoint": url, "model": "judge", "revision": "1", **settings}


# -------------------------------------------------------------------------------------------------------- prompts


def test_clean_recipe_has_no_findings(tmp_path: Path):
    result = found(tmp_path)
    assert result.findings == ()
    assert (result.prompts, result.completions, result.estimated) == (PROMPTS, 0, None)


FIRST = str(rows()[0]["prompt"])  # a test prompt
LAST = str(rows()[-1]["prompt"])  # a training prompt
LONG = sentence(500, words=60)
PLANTED: dict[str, tuple[list[Row], tuple[str, Severity, int]]] = {
    "the_same_row_twice": (with_rows(rows()[20], rows()[21]), ("duplicates", NOTE, 2)),
    "a_prompt_twice_with_other_metadata": (
        with_rows(row(LAST, str(PROMPTS - 1)) | {"metadata": {"x": 1}}), ("duplicates", NOTE, 1),
    ),
    "two_answers": (with_rows(row(LAST, "7")), ("conflicting answers", WARNING, 2)),
    "another_case_and_spacing": (with_rows(row(LAST.upper() + " ", str(PROMPTS - 1))), ("near duplicates", WARNING, 1)),
    "no_question_mark": (with_rows(row(LAST[:-1], str(PROMPTS - 1))), ("near duplicates", WARNING, 1)),
    "an_empty_prompt": (with_rows(row(" "), row("")), ("import", WARNING, 2)),
    "content_that_is_no_text": (
        with_rows({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}), ("import", WARNING, 1),
    ),
    "test_prompt_word_for_word_inside_a_training_prompt": (
        with_rows(row(f"Hello! {FIRST} Please answer.")), ("leakage", WARNING, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("problems", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_fault_in_the_prompts_is_found_and_nothing_else(
    tmp_path: Path, problems: list[Row], expected: tuple[str, Severity, int]
):
    assert told(found(tmp_path, problems)) == [expected]


def test_test_prompt_that_is_a_training_prompt_but_for_case_is_an_error(tmp_path: Path):
    result = found(tmp_path, with_rows(row(FIRST.upper(), "0")))
    assert told(result) == [("leakage", ERROR, 1), ("near duplicates", WARNING, 1)]
    assert "1 of 10 test prompts is in the training split too" in result.findings[0].message


def test_test_prompt_that_is_listed_as_a_training_prompt_too_is_an_error(tmp_path: Path):
    assert told(found(tmp_path, with_rows(row(FIRST, "0")))) == [("leakage", ERROR, 1), ("duplicates", NOTE, 1)]


def test_near_duplicates_with_other_answers_are_told_as_such(tmp_path: Path):
    result = found(tmp_path, with_rows(row(LAST.lower(), "7")))
    assert told(result) == [("near duplicates", WARNING, 1), ("conflicting answers", WARNING, 2)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What  is it?", "what is it", True),
        ("\u201cSay\u201d it \u2014 now.", '"say" it - now', True),
        ("What is 3 * 4 - 1?", "What is 3 - 4 * 1?", False),
        ("What is 3.5?", "What is 35?", False),
        ("f(x, y)", "f(x) y", False),
        ("Is it \u00dcber?", "is it \u00fcber", True),
        ("f'(x)", "f(x)", False),
    ],
)
def test_folded_texts_are_the_same_only_when_they_mean_the_same(one: str, other: str, same: bool):
    first, second = folded(pl.Series([one, other]))
    assert (first == second) is same


def test_shares_of_runs_count_runs_that_few_other_texts_have():
    words = [f"w{i}" for i in range(100)]
    others = pl.Series([" ".join(words[:40])])
    texts = pl.Series(
        [
            " ".join(words[:40]),  # all of its 28 runs
            " ".join([*words[:26], *words[60:86]]),  # 14 of its 40 runs
            " ".join(words[: RUN - 1]),  # no run at all
            "",
        ]
    )
    assert shares_of_runs(texts, others).to_list() == [1.0, 14 / 40, 0.0, 0.0]
    assert shares_of_runs(texts, pl.concat([others] * 4)).to_list() == [0.0] * 4  # instructions that everything has


def test_runs_do_not_reach_from_one_text_into_the_next():
    words = [f"w{i}" for i in range(20)]
    texts = pl.Series([" ".join(words[:7]), " ".join(words[7:14])])
    assert shares_of_runs(pl.Series([" ".join(words[:14])]), texts).to_list() == [0.0]


# -------------------------------------------------------------------------------------------------------- lengths


def test_prompt_that_fills_max_length_is_an_error_and_one_that_leaves_little_room_a_warning(tmp_path: Path):
    tokens = examine(recipe(tmp_path, [row(LONG)]), tmp_path, None).prompts["tokens"][0]
    fills = found(tmp_path, with_rows(row(LONG)), train={"method": "dpo", "args": {"max_length": tokens}})
    assert ("truncation", ERROR, 1) in told(fills)
    room = found(tmp_path, with_rows(row(LONG)), train={"method": "dpo", "args": {"max_length": tokens + 1}})
    assert only(room).remedy == "lower sample.max_new_tokens to 1, or raise train.args.max_length"
    assert (only(room).severity, only(room).rows) == (WARNING, 1)
    enough = found(tmp_path, with_rows(row(LONG)), train={"method": "dpo", "args": {"max_length": tokens + 40}})
    assert enough.findings == ()


def test_prompt_that_does_not_fit_the_policys_context_is_told_also_with_the_system_message(tmp_path: Path):
    tokens = examine(recipe(tmp_path, [row(LONG)]), tmp_path, None).prompts["tokens"][0]
    sample = {"backend": "transformers", "max_new_tokens": 256 - tokens}
    quiet: dict[str, object] = {"train": {"method": "dpo", "args": {"max_length": None}}}
    assert found(tmp_path, with_rows(row(LONG)), sample=sample, **quiet).findings == ()
    over = found(tmp_path, with_rows(row(LONG)), sample=sample | {"max_new_tokens": 257 - tokens}, **quiet)
    assert told(over) == [("context", WARNING, 1)]
    assert told(found(tmp_path, with_rows(row(LONG)), sample=sample | {"system": "1"}, **quiet)) == [
        ("context", WARNING, 1)
    ]


@pytest.mark.parametrize(
    ("train", "limit"),
    [
        (None, 1024),
        ({"method": "dpo"}, 1024),
        ({"method": "dpo", "args": {"max_length": 77}}, 77),
        ({"method": "dpo", "args": {"max_length": None}}, None),
        ({"method": "grpo"}, None),
        ({"method": "grpo", "args": {"max_length": 77}}, 77),
    ],
)
def test_max_length_is_the_recipes_or_the_trainers_default(tmp_path: Path, train: object, limit: int | None):
    assert max_length(recipe(tmp_path, rows(), train=train)) == limit


def test_completions_there_are_that_will_be_cut_are_counted_with_their_prompts(tmp_path: Path):
    workspace = builders.workspace_in(tmp_path, count=5)
    builders.built(workspace, hygiene={"duplicates": "off"})
    given = builders.recipe(train={"method": "dpo", "args": {"max_length": 12}}, hygiene={"duplicates": "off"})
    texts = examine(given, tmp_path, workspace).completions["text"].to_list()
    # Four bytes a token, rounded up: "What is 0 + 0?" is 4 tokens, which leaves 8 tokens, 32 bytes.
    cut = sum(len(text) > 32 for text in texts)
    assert len(texts) == 30
    assert 0 < cut < 30
    finding = only(checkup(given, tmp_path, workspace))
    assert (finding.check, finding.severity, finding.rows) == ("truncation", WARNING, cut)
    assert f"{cut} of 30 completions" in finding.message
    assert "lengths estimated from bytes since the recipe has no policy" in finding.message


def test_without_a_train_block_what_trls_default_would_cut_is_a_note(tmp_path: Path):
    text = " ".join(["word"] * 1000)
    result = found(tmp_path, [row(text), row("short")], policy=None, train=None, sample={"backend": "fake", "n": 2})
    assert told(result) == [("truncation", NOTE, 1)]
    assert "TRL's default" in only(result).message


# ------------------------------------------------------------------------------------------------------- template


def test_template_whose_beginning_depends_on_the_answer_is_an_error_for_every_prompt(tmp_path: Path):
    result = found(tmp_path, template=LEAKY)
    assert (only(result).check, only(result).severity, only(result).rows) == ("template", ERROR, PROMPTS)


def test_prompt_that_the_template_refuses_is_a_warning(tmp_path: Path):
    assert found(tmp_path, template=PLAIN).findings == ()


def test_prompt_with_a_refused_word_is_counted(tmp_path: Path):
    assert told(found(tmp_path, with_rows(row("A lamp 99 times.")), template=PLAIN)) == [("template", WARNING, 1)]


# --------------------------------------------------------------------------------------------------------- extras


@pytest.mark.parametrize(
    ("module", "blocks", "severity", "line"),
    [
        ("math_verify", {"score": [{"kind": "verifier", "name": "math"}]}, ERROR, "pip install 'prefkit[verify]'"),
        ("trl", {}, WARNING, "pip install 'prefkit[train]'"),
    ],
)
def test_missing_package_is_told_with_its_extra(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    blocks: dict[str, object],
    severity: Severity,
    line: str,
):
    monkeypatch.setitem(sys.modules, module, None)
    finding = only(found(tmp_path, **blocks))
    assert (finding.check, finding.severity, finding.remedy) == ("extras", severity, line)
    assert module in finding.message


def test_without_transformers_lengths_are_estimated_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = found(tmp_path, with_rows(row(" ".join(["word"] * 120))))
    assert result.estimated == "transformers is not installed"
    assert told(result) == [("extras", ERROR, None), ("truncation", WARNING, 1)]


# ------------------------------------------------------------------------------------------------------ endpoints


def test_endpoint_that_serves_the_model_is_fine_and_its_judge_is_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with FakeEndpoint(Script(key=KEY)) as endpoint:
        result = found(tmp_path, score=[judge(endpoint.url, api_key_env="JUDGE_KEY")])
    assert told(result) == [("spending", NOTE, PROMPTS * 4 * 4)]


def test_policy_behind_an_endpoint_is_looked_for_there_and_not_in_a_folder(tmp_path: Path):
    with FakeEndpoint() as endpoint:
        sample = {"backend": "endpoint", "endpoint": endpoint.url, "n": 2, "max_new_tokens": 40}
        served = found(tmp_path, sample=sample, policy={"model": "judge", "revision": "1"})
        other = found(tmp_path, sample=sample, policy={"model": "other", "revision": "1"})
    assert told(served) == [("spending", NOTE, PROMPTS * 2)]
    assert served.estimated == "the policy is behind an endpoint"
    assert "serves judge, not 'other'" in other.findings[0].message


AILING: dict[str, tuple[dict[str, object], str]] = {
    "wrong_key": ({"api_key_env": "WRONG_KEY"}, "refuses the key in WRONG_KEY (401)"),
    "no_key": ({}, "refuses calls without a key (401)"),
    "unset_key": ({"api_key_env": "UNSET_KEY"}, "UNSET_KEY is not set"),
    "key_with_a_line_break": ({"api_key_env": "BROKEN_KEY"}, "BROKEN_KEY holds characters that no header can carry"),
    "other_model": ({"api_key_env": "JUDGE_KEY", "model": "gpt"}, "serves judge, not 'gpt'"),
}


@pytest.mark.parametrize(("settings", "says"), AILING.values(), ids=AILING.keys())
def test_endpoint_that_cannot_judge_is_an_error_and_no_key_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], says: str
):
    wrong = "sk-wrong-0123456789"
    for name, key in (("JUDGE_KEY", KEY), ("WRONG_KEY", wrong), ("BROKEN_KEY", "sk-broken\nkey")):
        monkeypatch.setenv(name, key)
    with FakeEndpoint(Script(key=KEY)) as endpoint:
        result = found(tmp_path, score=[judge(endpoint.url, **settings)])
    errors = [finding for finding in result.findings if finding.severity is ERROR]
    assert [says in str(finding) for finding in errors] == [True]
    assert not any(secret in str(f) for f in result.findings for secret in (KEY, wrong, "sk-broken"))


def test_endpoint_that_is_not_there_or_is_no_url_is_an_error(tmp_path: Path):
    with FakeEndpoint() as endpoint:
        url = endpoint.url
    wrong = {
        url: "cannot be reached",
        "file:///etc": "expected a URL",
        "http://me:pass-word@127.0.0.1/v1": "http://127.0.0.1/v1 cannot be reached",
    }
    for place, says in wrong.items():
        [finding, *_] = found(tmp_path, score=[judge(place)]).findings
        assert (finding.check, finding.severity) == ("endpoint", ERROR)
        assert says in finding.message
        assert "pass-word" not in str(finding)


@pytest.mark.parametrize(
    ("answer", "severity", "says"),
    [
        (Reply(200, b"<html>Welcome</html>", content_type="text/html"), ERROR, "answers with a web page (HTML)"),
        (Reply(200, b'{"hello": 1}'), ERROR, "something else than a list of models"),
        (Reply(404, b"{}"), WARNING, "does not list its models (404)"),
        (Reply(503, b""), WARNING, "does not list its models (503)"),
        (Reply(302, b"", headers={"Location": "http://127.0.0.1:1/v1/models"}), ERROR, "redirects (302)"),
    ],
    ids=["html", "other_json", "no_list", "unavailable", "redirect"],
)
def test_endpoint_that_answers_something_else_is_told(
    tmp_path: Path, serving: Callable[[Reply], str], answer: Reply, severity: Severity, says: str
):
    [finding, *_] = found(tmp_path, score=[judge(serving(answer))]).findings
    assert (finding.check, finding.severity) == ("endpoint", severity)
    assert says in finding.message


@pytest.fixture
def serving():
    """Starts servers that answer everything alike, and stops them."""
    servers: list[LoopbackServer] = []

    def start(answer: Reply) -> str:
        async def handler(request: Request) -> Reply:
            await asyncio.sleep(0)
            return answer

        servers.append(LoopbackServer(handler))
        servers[-1].start()
        return f"http://127.0.0.1:{servers[-1].port}/v1"

    yield start
    for server in servers:
        server.stop()


def test_verdict_never_shows_a_key_that_the_endpoint_echoes():
    place = Place("http://user:secret@host/v1?key=secret", "m", "K")
    body = f'{{"data": [{{"id": "{KEY}"}}]}}'.encode()
    for finding in (verdict(place, Answer(200, body), KEY), verdict(place, f"no route for {KEY}", KEY)):
        assert KEY not in str(finding)
        assert "secret" not in str(finding)


# ------------------------------------------------------------------------------------------------------- spending


def forecasts(seen: Examined) -> tuple[Forecast, ...]:
    assert seen.plan is not None
    return seen.plan.forecasts


def only_errors(result: Checkup) -> list[str]:
    return [f.check for f in result.findings if f.severity is ERROR]


def test_cost_before_the_first_draw_counts_every_call_at_the_length_completions_can_get(tmp_path: Path):
    price = {"input": 2.5, "output": 10}
    entry = judge("http://127.0.0.1:9/v1", price=price, max_tokens=100, aspects=["helpfulness", "honesty"], repeats=2)
    [cost] = forecasts(examine(recipe(tmp_path, rows(), score=[entry]), tmp_path, None))
    assert cost.calls == PROMPTS * 4 * 2 * 2
    assert cost.output_tokens == cost.calls * 100
    # A completion of 40 new tokens is 160 bytes, a prompt about 80; the question and its levels are the rest.
    assert 240 / 4 < cost.input_tokens / cost.calls < 800
    assert cost.usd == pytest.approx((cost.input_tokens * 2.5 + cost.output_tokens * 10) / 1e6)


def test_cost_of_a_pairwise_judge_counts_both_orders_of_every_pair(tmp_path: Path):
    entry = judge("http://127.0.0.1:9/v1") | {"mode": "pairwise"}
    given = recipe(tmp_path, rows(), score=[entry], select={"kind": "comparisons"})
    [cost] = forecasts(examine(given, tmp_path, None))
    assert cost.calls == PROMPTS * 6 * 2  # 4 completions make 6 pairs
    assert cost.input_tokens > 0


def test_cost_when_everything_is_drawn_counts_the_completions_there_are(tmp_path: Path):
    workspace = builders.workspace_in(tmp_path, count=5)
    builders.built(workspace)
    given = builders.recipe(score=[judge("http://127.0.0.1:9/v1", aspects=["honesty"])], hygiene={"duplicates": "off"})
    [cost] = forecasts(examine(given, tmp_path, workspace))
    assert cost.calls == 30


@pytest.mark.parametrize(
    ("budget", "severity"),
    [({"usd": 1000}, None), ({"usd": 0.01}, ERROR), ({"tokens": 1000}, ERROR), ({"tokens": 10**9}, None)],
)
def test_budget_below_the_forecast_is_an_error(tmp_path: Path, budget: dict[str, float], severity: Severity | None):
    with FakeEndpoint() as endpoint:
        entry = judge(endpoint.url, price={"input": 2.5, "output": 10})
        result = found(tmp_path, score=[entry], budget=budget)
    assert [f.severity for f in result.findings if f.check == "budget"] == ([severity] if severity else [])
    assert only_errors(result) == (["budget"] if severity else [])


def test_budget_between_the_expected_and_the_highest_cost_is_a_warning(tmp_path: Path):
    entry = judge("http://127.0.0.1:9/v1", max_tokens=1000)
    [cost] = forecasts(examine(recipe(tmp_path, rows(), score=[entry]), tmp_path, None))
    with FakeEndpoint() as endpoint:
        between = {"tokens": cost.input_tokens + cost.output_tokens - 1}
        result = found(tmp_path, score=[judge(endpoint.url, max_tokens=1000)], budget=between)
    assert [(f.check, f.severity) for f in result.findings] == [("budget", WARNING), ("spending", NOTE)]


def test_budget_in_dollars_without_a_price_is_an_error(tmp_path: Path):
    with FakeEndpoint() as endpoint:
        result = found(tmp_path, score=[judge(endpoint.url)], budget={"usd": 5})
    assert only_errors(result) == ["budget"]
    assert "has no price" in result.findings[0].message


# ------------------------------------------------------------------------------------------------- what is not there


def test_prompts_that_cannot_be_read_are_one_error_and_the_rest_is_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "trl", None)
    result = found(tmp_path, prompts={"path": "problms.jsonl"})
    assert [(f.check, f.severity) for f in result.findings] == [("recipe", ERROR), ("extras", WARNING)]
    assert "problms.jsonl" in result.findings[0].message


def test_policy_that_is_not_there_is_one_error_and_prompts_are_still_checked(tmp_path: Path):
    result = found(tmp_path, PLANTED["two_answers"][0], policy={"model": "no-such-folder"})
    assert [(f.check, f.severity) for f in result.findings] == [("recipe", ERROR), ("conflicting answers", WARNING)]


def test_source_that_was_never_imported_is_one_error(tmp_path: Path):
    assert [f.severity for f in found(tmp_path, prompts={"imported": "gsm8k"}).findings] == [ERROR]


def test_doctor_writes_nothing(tmp_path: Path):
    workspace = Workspace.create(tmp_path)
    given = recipe(tmp_path, rows())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} | {
        p: p.stat().st_mtime_ns for p in POLICY.iterdir()
    }
    assert checkup(given, tmp_path, workspace).findings == ()
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} | {p: p.stat().st_mtime_ns for p in POLICY.iterdir()}
    assert after == before
