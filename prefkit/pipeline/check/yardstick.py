"""The yardstick of a check: a reference model, its own samples, and the tokens that a trainer of it sees.

What of it decides a number is in `content`; where the model lies and what runs it is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prefkit.identity import Json
from prefkit.pipeline.draws import Block
from prefkit.pipeline.recipe import CheckConfig
from prefkit.sampling.config import PolicyConfig, TransformersSampler, VllmSampler
from prefkit.shift.registry import Reference
from prefkit.shift.verdict import Limits

MAX_NEW_TOKENS = 512
"""Longest sample of the reference, where neither the check nor a `sample` block says."""
OWN_SEEDS = 2**63
"""The seeds of a reference's own samples begin here, so that the rows of a version are never their own yardstick."""
_ELSEWHERE = {"reference", "revision", "backend", "device"}


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A check, resolved: `config` has its longest sample filled in."""

    config: CheckConfig
    reference: Reference
    """Where the model is and how it is run."""
    model_id: str
    system: str | None = None
    """The system message of the recipe's `sample` blocks, which the reference reads as well."""

    @property
    def sampler(self) -> TransformersSampler | VllmSampler:
        """What draws the reference's own samples: plainly, at T = 1 over the whole vocabulary."""
        config = self.config
        policy = PolicyConfig(
            model=self.reference.model,
            revision=self.reference.revision,
            trust_remote_code=self.reference.trust_remote_code,
        )
        common: Mapping[str, object] = {
            "policy": policy,
            "n": config.samples,
            "max_new_tokens": config.max_new_tokens or MAX_NEW_TOKENS,
            "seed": OWN_SEEDS + config.seed,
            "dtype": config.dtype,
            "system": self.system,
        }
        if config.backend == "vllm":
            return VllmSampler.model_validate({"backend": "vllm", **common})
        return TransformersSampler.model_validate({"backend": "transformers", "device": config.device, **common})

    @property
    def block(self) -> Block:
        """The plan of the reference's own samples."""
        sampler = self.sampler
        return Block(0, self.model_id, 0, sampler.sampler_id, sampler.n)

    @property
    def limits(self) -> Limits:
        """The gate."""
        return Limits(self.config.max_off_support, self.config.max_nll_gap)

    def content(self) -> dict[str, Json]:
        """What decides a report, as plain data."""
        return {
            "model_id": self.model_id,
            "system": self.system,
            **self.config.model_dump(mode="json", exclude=_ELSEWHERE),
        }

    def measures_like(self, other: "Yardstick") -> bool:
        """Whether every row has the same numbers by both, whatever the limits."""
        return self.block == other.block and self.config.max_length == other.config.max_length
