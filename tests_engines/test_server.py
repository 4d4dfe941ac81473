"""vLLM's real server on loopback: sampling, weights, judges, and its death in the middle of a build.

The last test kills the server that the others use.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import Request, urlopen

import polars as pl
import pytest
from transformers import PreTrainedModel

from prefkit.engines.distribution import Distribution
from prefkit.engines.transformers_sampler import TransformersSampler
from prefkit.engines.vllm.sampler import VllmServerSampler
from prefkit.engines.vllm.server import ServerEngine
from prefkit.errors import EndpointError, RecipeError, SyncError
from prefkit.records import COMPLETIONS
from prefkit.sampling.config import EndpointSampler as TextSettings
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.config import TransformersSampler as TransformersSettings
from prefkit.sampling.config import VllmServerSampler as Settings
from prefkit.sampling.protocol import SampleFailure, SampleFailureKind
from prefkit.sampling.registry import open_sampler
from prefkit.scoring.config import AspectJudgeScorer
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest
from prefkit.scoring.registry import open_scorer
from prefkit.store.workspace import Workspace
from tests_engines.models import (
    WHOLE,
    Learner,
    chat,
    language_model,
    logprobs_of,
    moved,
    outcomes,
    request,
    samples,
    tokens,
    user,
)
from tests_engines.servers import Server, free_port

NEW_TOKENS = 32
REQUESTS = [request(i) for i in range(32)]


def opened(server: Server, **given: object) -> VllmServerSampler:
    base = {"backend": "vllm_server", "endpoint": server.url, "dtype": "float32", "max_new_tokens": NEW_TOKENS}
    sampler = open_sampler(Settings.model_validate(base | given), PolicyConfig(model=str(server.model)))
    assert isinstance(sampler, VllmServerSampler)
    return sampler


def posted(server: Server, route: str, body: object) -> dict[str, object]:
    """What plain HTTP brings back."""
    head = {"Content-Type": "application/json"}
    with urlopen(Request(server.root + route, json.dumps(body).encode(), head), timeout=120) as answer:
        content = answer.read()
    return json.loads(content) if content else {}


def test_greedy_draws_equal_those_of_transformers(server: Server):
    settings = TransformersSettings(backend="transformers", device="cpu", temperature=0, max_new_tokens=NEW_TOKENS)
    reference = TransformersSampler.open(settings, PolicyConfig(model=str(server.model)), "hf:reference")
    ours, theirs = samples(opened(server, temperature=0), REQUESTS), samples(reference, REQUESTS)
    assert {i: (s.token_ids, s.text, s.finish_reason) for i, s in ours.items()} == {
        i: (s.token_ids, s.text, s.finish_reason) for i, s in theirs.items()
    }


@pytest.mark.parametrize("given", [{}, {"temperature": 0.7, "top_p": 0.9}], ids=str)
def test_both_logprobs_are_within_1e_4_of_a_forward_pass(server: Server, given: dict[str, float]):
    distribution = Distribution(given.get("temperature", 1.0), given.get("top_p", 1.0), None)
    model, drawn = language_model(tie_word_embeddings=True), samples(opened(server, **given), REQUESTS)
    for asked in REQUESTS:
        found, prompt_ids = drawn[asked.completion_id], chat().prompt_ids(asked.prompt)
        for got, under in ((found.sampling_logprobs, distribution), (found.behavior_logprobs, WHOLE)):
            assert got == pytest.approx(logprobs_of(model, prompt_ids, list(found.token_ids or ()), under), abs=1e-4)


def test_tokens_are_the_same_twice_and_in_other_company(server: Server):
    base = tokens(samples(opened(server), REQUESTS))
    assert tokens(samples(opened(server), REQUESTS[::-2])) == {
        r.completion_id: base[r.completion_id] for r in REQUESTS[::-2]
    }
    assert len({tuple(t) for t in base.values()}) > 28


def test_aborted_draws_are_failures_to_try_again_and_not_samples(server: Server):
    drawing, cut = opened(server, max_new_tokens=400, batch_size=64), threading.Event()

    def abort() -> None:
        while not cut.wait(0.05):
            posted(server, "/abort_requests", {})

    thread = threading.Thread(target=abort)
    thread.start()
    try:
        drawn = outcomes(drawing, [request(i) for i in range(32)])
    finally:
        cut.set()
        thread.join()
    failures = [o for o in drawn.values() if isinstance(o, SampleFailure)]
    assert len(failures) > 5
    assert {f.kind for f in failures} == {SampleFailureKind.ABORTED}
    assert all(f.kind.transient for f in failures)


def test_judge_style_chat_call_is_answered_within_its_choices(server: Server):
    body = {
        "model": str(server.model), "messages": user("Which is better, A or B?"), "max_tokens": 8, "seed": 1,
        "structured_outputs": {"choice": ["A", "B"]},
    }  # fmt: skip
    answer = posted(server, "/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"] in ("A", "B")  # type: ignore[index]
    assert answer["usage"]["completion_tokens"] >= 1  # type: ignore[index]


def test_judge_of_a_recipe_scores_with_replies_the_server_constrains(server: Server):
    config = {
        "kind": "judge", "mode": "aspects", "endpoint": server.url, "model": str(server.model), "revision": "r1",
        "rubric": "overall", "temperature": 1.0, "max_tokens": 800,
    }  # fmt: skip
    judge = open_scorer(AspectJudgeScorer.model_validate(config), Path())
    ids = [i.to_bytes(16, "little") for i in range(12)]
    requests = [ScoreRequest(id, "overall", 0, user(f"What is {id[0]} + 1?"), "7", {}) for id in ids]
    results = [result for batch in judge.score(requests) for result in batch]
    scores = [result.score for result in results if isinstance(result, Score)]
    others = {result.kind for result in results if isinstance(result, ScoreFailure)}
    assert sorted(result.completion_id for result in results) == sorted(ids)
    # It writes at random until the grammar lets it stop: what was cut off is a failure, and never a score.
    assert scores
    assert others <= {ScoreFailureKind.CUT_OFF}
    print(f"\njudge of a random model: {len(scores)} scores, {len(others)} kinds of failure")


def test_endpoint_sampler_gets_the_texts_and_says_that_it_has_no_tokens(server: Server):
    settings = TextSettings(backend="endpoint", endpoint=server.url, temperature=0, max_new_tokens=NEW_TOKENS)
    policy = PolicyConfig(model=str(server.model), revision="r1")
    texts = samples(open_sampler(settings, policy), REQUESTS)
    whole = samples(opened(server, temperature=0), REQUESTS)
    assert {i: (s.text, s.finish_reason) for i, s in texts.items()} == {
        i: (s.text, s.finish_reason) for i, s in whole.items()
    }
    assert all(s.token_ids is s.sampling_logprobs is s.behavior_logprobs is None for s in texts.values())


def test_server_with_another_model_and_no_server_at_all_are_refused(server: Server, untied: Path):
    config = Settings(backend="vllm_server", endpoint=server.url)
    with pytest.raises(RecipeError, match=r"serves '.*tied.*', expected the recipe's policy '.*untied"):
        open_sampler(config, PolicyConfig(model=str(untied)))
    nowhere = Settings(backend="vllm_server", endpoint=f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(EndpointError, match=r"cannot be reached .*refused.*: start it"):
        open_sampler(nowhere, PolicyConfig(model=str(server.model)))


# ------------------------------------------------------------------------- from here on the server has other weights


def test_syncs_in_a_row_are_exact_and_a_stale_cache_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch):
    drawing, model = opened(server), language_model(tie_word_embeddings=True)
    differences: list[float] = []
    for version in range(1, 6):
        moved(model, version)
        differences.append(drawing.sync(Learner(model), version))
    assert max(differences) <= 1e-4
    assert follows(drawing, model)
    moved(model, 6)
    with monkeypatch.context() as sabotage:
        sabotage.setattr(ServerEngine, "reset_cache", lambda _: None)
        # Pausing clears the cache as well.
        sabotage.setattr(ServerEngine, "load", loaded_without_pause)
        with pytest.raises(SyncError, match="log-probs differ by"):
            drawing.sync(Learner(model), 6)
    assert drawing.sync(Learner(model), 6) <= 1e-4
    assert follows(drawing, model)
    print(f"\nlargest difference over 5 syncs of the server: {max(differences):.1e}")


def loaded_without_pause(self: ServerEngine, files: Sequence[str], label: str) -> None:
    self._development("/collective_rpc", {"method": "prefkit_load", "args": [list(files), label]})


def follows(drawing: VllmServerSampler, model: PreTrainedModel) -> bool:
    """Whether a draw's log-probs are the model's."""
    (sample,) = samples(drawing, [request(0)]).values()
    expected = logprobs_of(model, chat().prompt_ids(request(0).prompt), list(sample.token_ids or ()), WHOLE)
    return sample.behavior_logprobs == pytest.approx(expected, abs=1e-4)


def test_server_that_somebody_synced_is_not_taken_for_the_policy(server: Server):
    with pytest.raises(SyncError, match="holds unknown weights"):
        next(iter(opened(server).sample([request(0)])))


# ----------------------------------------------------------------------------------------- from here on it is dead


def test_server_killed_in_mid_build_is_one_line_and_the_next_build_resumes(
    starting: Server, untied: Path, tmp_path: Path
):
    first = Server(untied, tmp_path / "first.log")
    starting.kill()  # two are enough
    first.wait()
    workspace = Workspace.create(tmp_path)
    problems = [{"prompt": f"What is {i} + {i % 7}?", "answer": str(i + i % 7)} for i in range(60)]
    (tmp_path / "problems.jsonl").write_text("".join(f"{json.dumps(p)}\n" for p in problems))
    (tmp_path / "recipe.yaml").write_text(
        json.dumps(
            {
                "name": "killed", "prompts": {"path": "problems.jsonl"}, "policy": {"model": str(untied)},
                "sample": {
                    "backend": "vllm_server", "endpoint": first.url, "dtype": "float32", "n": 8,
                    "max_new_tokens": 192, "batch_size": 8,
                },
                "score": [{"kind": "verifier", "name": "length", "max": 40}],
                "select": {"kind": "best_vs_worst"},
            }
        )
    )  # fmt: skip
    build = [sys.executable, "-m", "prefkit", "build", "recipe.yaml"]
    running = subprocess.Popen(build, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stored = wait_for_rows(workspace, 24, running)
    first.kill()
    out, err = running.communicate(timeout=120)
    kept = draws(workspace)
    assert running.returncode == 2, out + err
    assert "Traceback" not in err
    (said,) = [line for line in err.splitlines() if "vLLM server" in line]
    assert "start it again and build again, what was drawn is kept" in said
    assert stored <= kept.height < 480
    assert set(kept["failure"].drop_nulls()) <= {"connection"}

    second = Server(untied, tmp_path / "second.log", port=first.port)
    try:
        second.wait()
        done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with pytest.raises(RecipeError, match=r"before temperature.*--logprobs-mode processed_logprobs"):
            opened(second, temperature=0.7)
    finally:
        second.kill()
    whole = draws(workspace)
    good = whole.filter(pl.col("failure").is_null())
    assert good["id"].n_unique() == good.height == 480
    before = kept.filter(pl.col("failure").is_null()).join(good, on="id", how="left")
    assert before["token_ids"].to_list() == before["token_ids_right"].to_list()
    print(f"\nkilled after {stored} draws, {kept.height} were kept; the message: {said}")


def draws(workspace: Workspace) -> pl.DataFrame:
    return workspace.facts.read(COMPLETIONS, ["id", "token_ids", "failure"], {}, workspace.facts.heads()["completions"])


def wait_for_rows(workspace: Workspace, count: int, running: "subprocess.Popen[str]") -> int:
    """Returns once the build has stored so many draws."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and running.poll() is None:
        stored = draws(workspace).height
        if stored >= count:
            return stored
        time.sleep(0.2)
    running.kill()
    raise AssertionError("".join(running.communicate()))
