"""What a check misses, computed in this process: the reference's own samples, then all log-probs under it.

The model is opened only when something is missing, and closed before the next step opens its own.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from prefkit.errors import DamageError
from prefkit.pipeline.check.logps import Scoring, unknown
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.draws import draw, to_do
from prefkit.pipeline.progress import Progress
from prefkit.records import PROMPTS
from prefkit.sampling.registry import open_sampler
from prefkit.shift.registry import open_reference
from prefkit.store.facts import FactStore, settled


@dataclass
class LocalReference:
    """See `ReferenceMaker`."""

    yardstick: Yardstick
    facts: FactStore
    cache: Path
    progress: Progress
    retry: Collection[str] = ()
    drawn: int = 0
    scored: int = 0

    def draw(self, keys: pl.DataFrame, prompts: pl.DataFrame) -> int:
        """See ReferenceMaker."""
        missing = to_do(keys, self.retry)
        self.progress.stage("reference samples", keys.height, missing.height)
        if missing.is_empty():
            return 0
        found = self.facts.gather(
            PROMPTS, ["id", "batch_id", "messages"], missing["prompt_id"].unique(), self.facts.heads()[PROMPTS.name]
        )
        messages = settled(found).select("messages", prompt_id="id")
        requests = missing.select("prompt_id", "sample_index", "completion_id", "attempt")
        requests = requests.join(messages, on="prompt_id", how="left", maintain_order="left")
        with closing(open_sampler(self.yardstick.sampler, None, self.cache)) as sampler:
            self._require_same(sampler.policy_id)
            draw(self.facts, sampler, self.yardstick.block, requests, self.progress)
        self.drawn += missing.height
        return missing.height

    def score(self, known: pl.DataFrame) -> int:
        """See ReferenceMaker."""
        missing = unknown(known)
        self.progress.stage("log-probs", known.height, missing.height)
        if missing.is_empty():
            return 0
        with closing(open_reference(self.yardstick.reference, self.cache)) as model:
            self._require_same(model.model_id)
            Scoring(self.facts, model, self.yardstick, self.progress.advance).score(missing)
        self.scored += missing.height
        return missing.height

    def _require_same(self, model_id: str) -> None:
        if model_id != self.yardstick.model_id:
            raise DamageError(
                f"the weights of reference {self.yardstick.reference.model!r} are not those of "
                f"{self.yardstick.model_id}, expected the same: run the command again"
            )
