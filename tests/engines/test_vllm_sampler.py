"""What a sampler over vLLM does with what the engine answers, without vLLM."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from prefkit.engines.chat import Chat
from prefkit.engines.saved_weights import SavedWeights
from prefkit.engines.vllm.asks import Answer, Ask, AskFailure, Outcome, row_seed
from prefkit.engines.vllm.sampler import VllmSampler
from prefkit.errors import EndpointError, MissingExtraError, SyncError
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.config import VllmSampler as Settings
from prefkit.sampling.protocol import FinishReason, Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.registry import open_sampler
from prefkit.sampling.weights import Logprobed

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"
REQUESTS = [SampleRequest(bytes([i] * 16), [{"role": "user", "content": f"What is {i} + 1?"}]) for i in range(6)]


class Probed(SavedWeights):
    """A probe that ScriptedEngine passes."""

    def probe(self) -> Logprobed:
        return Logprobed(list(range(10, 210)), [7, 8], [-0.5, -1.5])


WEIGHTS = Probed(POLICY)


class ScriptedEngine:
    """Says `1 2` and ends; a reading, an ask for a token's log-prob, finds half of what was sampled from."""

    def __init__(self, label: str | None = None) -> None:
        self.context = 256
        self.asks: list[Ask] = []
        self.given_up = 0
        self.replies: dict[int, Answer | AskFailure | EndpointError] = {}
        self.read_logprobs = {7: -0.5, 8: -1.5}
        self.done: list[str] = []
        self._label = label
        self._waiting: list[Ask] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def submit(self, ask: Ask) -> None:
        self.asks.append(ask)
        self._waiting.append(ask)

    def finished(self) -> Sequence[Outcome]:
        if not self._waiting:
            return ()
        ask = self._waiting.pop(0)
        if ask.read_token is not None:
            read = self.read_logprobs.get(ask.read_token, -0.25)
            return [(ask.id, Answer([9], [-3.0], "length", [-0.5] * (len(ask.prompt_ids) - 1), read))]
        reply = self.replies.get(
            len(self.asks) - len(self._waiting) - 1, Answer([20, 21, 1], [-1.0, -1.0, -0.5], "stop")
        )
        if isinstance(reply, EndpointError):
            raise reply
        return [(ask.id, reply)]

    def cancel(self) -> None:
        self.given_up += len(self._waiting)
        self._waiting.clear()

    def load(self, files: Sequence[str], label: str) -> None:
        self.done.append(f"load {label}")

    def reset_cache(self) -> None:
        self.done.append("reset")

    def label(self) -> str | None:
        return self._label

    def close(self) -> None:
        self.cancel()


def sampler(engine: ScriptedEngine, **given: object) -> VllmSampler:
    config = Settings.model_validate({"backend": "vllm", "dtype": "float32", "max_new_tokens": 3, **given})
    return VllmSampler(config, engine, Chat.from_folder(POLICY), POLICY, "hf:policy")


def drawn(sampler: VllmSampler) -> dict[bytes, Sample | SampleFailure]:
    outcomes = [outcome for batch in sampler.sample(REQUESTS) for outcome in batch]
    assert sorted(o.completion_id for o in outcomes) == sorted(r.completion_id for r in REQUESTS)
    return {outcome.completion_id: outcome for outcome in outcomes}


@pytest.mark.parametrize(
    ("given", "sampling", "behavior", "asks"),
    [
        ({}, [-1.0, -1.0, -0.5], [-1.0, -1.0, -0.5], 1),
        ({"temperature": 0}, [0.0, 0.0, 0.0], [-1.0, -1.0, -0.5], 1),
        ({"temperature": 0.7}, [-1.0, -1.0, -0.5], [-0.5, -0.5, -0.25], 2),
        ({"top_p": 0.9}, [-1.0, -1.0, -0.5], [-0.5, -0.5, -0.25], 2),
        ({"top_k": 5}, [-1.0, -1.0, -0.5], [-0.5, -0.5, -0.25], 2),
    ],
    ids=str,
)
def test_draw_is_read_again_where_the_two_logprobs_differ_and_only_there(
    given: dict[str, float], sampling: list[float], behavior: list[float], asks: int
):
    engine = ScriptedEngine()
    for sample in drawn(sampler(engine, **given)).values():
        assert isinstance(sample, Sample)
        assert (sample.sampling_logprobs, sample.behavior_logprobs) == (sampling, behavior)
        assert (sample.token_ids, sample.finish_reason) == ([20, 21, 1], FinishReason.STOP)
    assert len(engine.asks) == asks * len(REQUESTS)


def test_asks_have_seeds_of_their_own_that_only_the_recipes_seed_changes():
    seeds = {}
    for seed in (0, 1):
        engine = ScriptedEngine()
        drawn(sampler(engine, seed=seed))
        seeds[seed] = [ask.seed for ask in engine.asks]
        assert seeds[seed] == [row_seed(r.completion_id, seed) for r in REQUESTS]
    assert len({*seeds[0], *seeds[1]}) == 2 * len(REQUESTS)
    assert all(0 <= s < 2**63 for s in seeds[0])


@pytest.mark.parametrize("given", [{}, {"temperature": 0.7}], ids=str)
def test_aborted_and_senseless_draws_are_failures_to_try_again(given: dict[str, float]):
    engine = ScriptedEngine()
    engine.replies = {
        1: AskFailure(SampleFailureKind.ABORTED, "vLLM ended it: abort"),
        2: Answer([20], [float("nan")], "length"),
    }
    failed = [o for o in drawn(sampler(engine, **given)).values() if isinstance(o, SampleFailure)]
    assert [f.kind for f in failed] == [SampleFailureKind.ABORTED] * 2


def test_engine_that_is_gone_gives_out_what_it_finished_first():
    engine = ScriptedEngine()
    engine.replies = {4: EndpointError("gone")}
    batches = sampler(engine).sample(REQUESTS)
    assert [o.completion_id for o in next(batches)] == [r.completion_id for r in REQUESTS[:4]]
    with pytest.raises(EndpointError, match="gone"):
        next(batches)


def test_sampling_that_is_given_up_gives_the_engine_up_too():
    engine = ScriptedEngine()
    batches = sampler(engine, batch_size=2).sample(REQUESTS)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert (engine.given_up, engine.busy) == (4, False)


def test_sync_loads_then_resets_then_probes_and_counts_as_its_version():
    engine = ScriptedEngine()
    opened = sampler(engine)
    assert opened.sync(WEIGHTS, 7) == 0.0
    assert engine.done == ["load 7", "reset"]
    assert opened.policy_version == 7
    # Both times with the prompt and the completion so far, so that the second meets what the first has cached.
    assert [len(ask.prompt_ids) for ask in engine.asks] == [200, 201, 200, 201]


@pytest.mark.parametrize("logprob", [-1.5002, float("nan")])
def test_engine_that_says_something_else_is_not_sampled_from_until_a_sync_succeeds(logprob: float):
    engine = ScriptedEngine()
    opened = sampler(engine)
    engine.read_logprobs[8] = logprob
    with pytest.raises(SyncError, match="log-probs differ by"):
        opened.sync(WEIGHTS, 7)
    for use in (lambda: opened.policy_version, lambda: next(iter(opened.sample(REQUESTS)))):
        with pytest.raises(SyncError, match="unknown weights"):
            use()
    engine.read_logprobs[8] = -1.50005
    assert opened.sync(WEIGHTS, 8) == pytest.approx(5e-5)
    assert len(drawn(opened)) == len(REQUESTS)


def test_engine_with_weights_of_somebody_else_is_not_taken_for_the_policy():
    with pytest.raises(SyncError, match="unknown weights"):
        next(iter(sampler(ScriptedEngine(label="3")).sample(REQUESTS)))


def test_opening_without_vllm_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prefkit\[vllm\]'"):
        open_sampler(Settings(backend="vllm"), PolicyConfig(model=str(POLICY)))
