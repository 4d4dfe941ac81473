"""Samplers and references that follow a model in training: exact copies, or refused."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM  # noqa: E402

from prefkit.engines.live_reference import LiveTransformersReference  # noqa: E402
from prefkit.engines.logprobs import TransformersReference  # noqa: E402
from prefkit.engines.saved_weights import SavedWeights  # noqa: E402
from prefkit.engines.transformers_sampler import TransformersSampler  # noqa: E402
from prefkit.errors import DamageError, RecipeError, SyncError  # noqa: E402
from prefkit.sampling.config import PolicyConfig  # noqa: E402
from prefkit.sampling.config import TransformersSampler as Settings  # noqa: E402
from prefkit.sampling.protocol import Sample  # noqa: E402
from prefkit.sampling.registry import open_synced, open_weights  # noqa: E402
from prefkit.sampling.weights import Logprobed  # noqa: E402
from prefkit.shift.live import open_live_reference  # noqa: E402
from prefkit.shift.protocol import Trained  # noqa: E402
from prefkit.shift.registry import Reference  # noqa: E402
from tests_engines.models import (  # noqa: E402
    CONTEXT,
    Learner,
    chat,
    language_model,
    moved,
    request,
    samples,
    written,
)

SYNCS = 20
REQUESTS = [request(i) for i in range(6)]
ROWS = [Trained(bytes([i]), [5 + i, 6, 7], [8 + i, 9, 10, 1], cut=0) for i in range(4)]
KINDS = ["tied", "untied"]


@dataclass(frozen=True)
class Sent(Learner):
    """A learner that sends or says other things than its model's; None leaves a weight out."""

    other: Mapping[str, "torch.Tensor | None"] = field(default_factory=dict)
    says: Logprobed | None = None

    def tensors(self) -> Iterator[tuple[str, "torch.Tensor"]]:
        sent = {**self.model.state_dict(), **self.other}
        yield from ((name, tensor) for name, tensor in sent.items() if tensor is not None)

    def probe(self) -> Logprobed:
        return self.says or super().probe()


def made(kind: str) -> PreTrainedModel:
    return language_model(tie_word_embeddings=kind == "tied")


def settings(**given: object) -> Settings:
    base = {"backend": "transformers", "device": "cpu", "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 16}
    return Settings.model_validate(base | given)


def sampler(model: PreTrainedModel, **given: object) -> TransformersSampler:
    return TransformersSampler(settings(**given), model, chat(), "run/1")


def opened(folder: Path, **given: object) -> TransformersSampler:
    return TransformersSampler.open(settings(**given), PolicyConfig(model=str(folder)), "hf:fresh")


def draws(sampler: TransformersSampler) -> dict[bytes, Sample]:
    return samples(sampler, REQUESTS)


def scores(reference: TransformersReference) -> dict[bytes, Sequence[float]]:
    return {scored.id: scored.logprobs for batch in reference.logprobs(ROWS) for scored in batch}


# --------------------------------------------------------------------------------------------------------------- exact


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_syncs_give_the_draws_of_samplers_opened_from_the_saved_weights(kind: str, tmp_path: Path):
    learner, follower = made(kind), sampler(made(kind))
    before = draws(follower)
    for version in range(1, SYNCS + 1):
        moved(learner, version)
        assert follower.sync(Learner(learner), version) < 1e-5
        followed = draws(follower)
        assert followed == draws(
            opened(written(learner, tmp_path))
        )  # tokens, texts and both log-probs, to the last bit
        assert followed != before
        assert follower.policy_version == version
        before = followed
    assert follower.policy_id == "run/1"


@pytest.mark.parametrize("kind", KINDS)
def test_steps_after_a_sync_do_not_reach_the_sampler(kind: str):
    learner, follower = made(kind), sampler(made(kind))
    follower.sync(Learner(learner), 1)
    before = draws(follower)
    moved(learner, 2)
    assert draws(follower) == before


@pytest.mark.parametrize("kind", KINDS)
def test_saved_weights_sync_a_sampler_as_their_learner_did(kind: str, tmp_path: Path):
    learner, follower, resumed = made(kind), sampler(made(kind)), sampler(made(kind))
    moved(learner, 1)
    follower.sync(Learner(learner), 1)
    Learner(learner).save(tmp_path / "saved")
    SavedWeights(tmp_path / "saved").save(tmp_path / "copied")
    moved(learner, 2)
    resumed.sync(open_weights(tmp_path / "copied"), 1)
    assert draws(resumed) == draws(follower)


def test_weights_are_cast_to_the_samplers_number_format_and_those_of_a_bfloat16_learner_taken(tmp_path: Path):
    learner = made("tied")
    half = opened(written(learner, tmp_path), dtype="bfloat16")
    moved(learner, 1)
    assert 1e-4 < half.sync(Learner(learner), 1) < 0.5
    assert draws(half) == draws(opened(written(learner, tmp_path), dtype="bfloat16"))
    assert 1e-4 < sampler(made("tied")).sync(Learner(learner.to(torch.bfloat16)), 1) < 0.5


def test_weights_under_checkpoint_names_reach_a_model_that_holds_its_experts_as_one_tensor(tmp_path: Path):
    config = Qwen3MoeConfig(
        vocab_size=464, hidden_size=32, intermediate_size=64, moe_intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
        pad_token_id=0, eos_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        learner, own = Qwen3MoeForCausalLM(config).eval(), Qwen3MoeForCausalLM(config).eval()
    Learner(learner).save(tmp_path)
    saved = SavedWeights(tmp_path)
    assert {name for name, _ in saved.tensors()} != learner.state_dict().keys()
    follower = sampler(own)
    assert follower.sync(saved, 1) < 1e-5
    assert draws(follower) == draws(sampler(learner))


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("kind", "other", "said"),
    [
        ("tied", {"model.norm.weight": None}, r"'model\.norm\.weight': got none, expected shape \[64\]"),
        (
            "tied",
            {"model.norm.weight": torch.ones(3)},
            r"'model\.norm\.weight': got shape \[3\], expected shape \[64\]",
        ),
        ("tied", {"extra": torch.ones(3)}, r"'extra': got shape \[3\], expected none"),
        ("tied", {"lm_head.weight": torch.ones(464, 64)}, r"'lm_head\.weight': got shape \[464, 64\], expected none"),
        ("untied", {"lm_head.weight": None}, r"'lm_head\.weight': got none, expected shape \[464, 64\]"),
    ],
    ids=["missing", "shape", "unknown", "head_not_tied", "head_missing"],
)
def test_weights_of_another_model_are_refused_and_change_nothing(
    kind: str, other: dict[str, "torch.Tensor | None"], said: str
):
    learner, follower = made(kind), sampler(made(kind))
    before = draws(follower)
    moved(learner, 1)
    with pytest.raises(SyncError, match=said):
        follower.sync(Sent(learner, other=other), 1)
    assert (follower.policy_version, draws(follower)) == (0, before)


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (Logprobed([], [5], [-1.0]), "0 prompt tokens and 1 of a completion, expected at least 1 and 1"),
        (Logprobed([5] * CONTEXT, [5], [-1.0]), f"{CONTEXT + 1} tokens, expected at most the {CONTEXT}"),
        (Logprobed([5], [5, 6], [-1.0]), "1 finite log-probs for 2 completion tokens"),
        (Logprobed([5], [5], [float("nan")]), "0 finite log-probs for 1 completion tokens"),
    ],
    ids=["empty", "too_long", "too_few", "not_finite"],
)
def test_probe_that_shows_nothing_is_refused_and_changes_nothing(says: Logprobed, said: str):
    follower = sampler(made("tied"))
    with pytest.raises(SyncError, match=said):
        follower.sync(Sent(made("tied"), says=says), 1)
    assert follower.policy_version == 0


def test_weights_that_say_something_else_are_not_sampled_from_until_a_sync_succeeds():
    learner, follower = made("tied"), sampler(made("tied"))
    stale = Learner(learner).probe()
    moved(learner, 1)
    with pytest.raises(SyncError, match=r"sampler's log-probs differ by .* expected at most 0\.0001 in float32"):
        follower.sync(Sent(learner, says=stale), 1)
    for use in (lambda: follower.policy_version, lambda: next(iter(follower.sample(REQUESTS)))):
        with pytest.raises(SyncError, match="holds unknown weights"):
            use()
    follower.sync(Learner(learner), 1)
    assert draws(follower) == draws(sampler(learner))


def test_sync_while_draws_are_under_way_is_refused():
    follower = sampler(made("tied"), batch_size=2)
    under_way = follower.sample(REQUESTS)
    next(under_way)
    with pytest.raises(SyncError, match="still drawing"):
        follower.sync(Learner(made("tied")), 1)
    under_way.close()  # type: ignore[attr-defined]
    follower.sync(Learner(made("tied")), 1)
    assert follower.policy_version == 1


def test_saved_weights_without_files_or_probe_are_one_line(tmp_path: Path):
    with pytest.raises(DamageError, match="holds no saved weights"):
        open_weights(tmp_path)
    written(made("tied"), tmp_path)
    with pytest.raises(DamageError, match=r"probe\.json cannot be read"):
        open_weights(tmp_path).probe()


# --------------------------------------------------------------------------------------------------- opened by a recipe


def test_opened_sampler_has_the_start_policys_draws_under_the_runs_id(tmp_path: Path):
    start = made("tied")
    policy = PolicyConfig(model=str(written(start, tmp_path)))
    follower = open_synced(settings(), policy, "arithmetic-3/1")
    assert isinstance(follower, TransformersSampler)
    assert (follower.policy_id, follower.policy_version) == ("arithmetic-3/1", 0)
    assert draws(follower) == draws(sampler(start))
    moved(start, 1)
    follower.sync(Learner(start), 7)
    assert draws(follower) == draws(sampler(start))
    assert (follower.policy_id, follower.policy_version) == ("arithmetic-3/1", 7)


# --------------------------------------------------------------------------------------------------- the live reference


@pytest.mark.parametrize("kind", KINDS)
def test_reference_is_reset_to_the_learner_exactly_and_stays_when_it_goes_on(kind: str, tmp_path: Path):
    learner = made(kind)
    reference = open_live_reference(Reference(str(written(learner, tmp_path / "start")), device="cpu"), "run/1")
    assert isinstance(reference, LiveTransformersReference)
    start = scores(reference)
    for version in range(1, 4):
        moved(learner, version)
        assert reference.sync(Learner(learner), version) < 1e-5
        fresh = Reference(str(written(learner, tmp_path / "moved")), device="cpu")
        assert scores(reference) == scores(TransformersReference.open(fresh, "hf:moved"))
    moved(learner, 4)
    assert scores(reference) == scores(TransformersReference.open(fresh, "hf:moved"))
    assert scores(reference) != start
    assert (reference.model_id, reference.policy_version) == ("run/1", 3)


def test_reference_that_does_not_say_what_the_learner_says_is_not_scored_with():
    learner = made("untied")
    reference = LiveTransformersReference(made("untied"), chat(), "run/1")
    stale = Learner(learner).probe()
    moved(learner, 1)
    with pytest.raises(SyncError, match="reference's log-probs differ by"):
        reference.sync(Sent(learner, says=stale), 1)
    with pytest.raises(SyncError, match="the reference holds unknown weights"):
        scores(reference)
    reference.sync(Learner(learner), 1)
    assert scores(reference) == scores(TransformersReference(learner, chat(), "hf:learner"))


def test_reference_of_vllm_cannot_follow():
    with pytest.raises(RecipeError, match="'vllm' cannot follow the policy in training"):
        open_live_reference(Reference("anything", backend="vllm"), "run/1")
