"""Coverage: how much of what the reference would say the data says anything about.

A preference loss moves the probability of the completions in its pairs; what happens to the rest is up to the network
(Xu et al. 2024, arXiv:2404.10719, section 4: DPO may put its mass on responses that no pair touches). So it matters
which share of the reference's own probability lies on responses that are, or resemble, a chosen or rejected one.

Where the responses can be enumerated that share is a sum. On text it is estimated by the share of the reference's own
samples that match a completion of the version: by the same answer (`answer_coverage`), or a near neighbour, as the
caller decides (`text_coverage`). Few long texts ever match, and then the share says nothing about the version.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.shift.answers import final_answers
from prefkit.shift.bootstrap import Bootstrap, Column, Estimate, resampled_means
from prefkit.shift.data import Booleans, Floats, Integers


@dataclass(frozen=True, slots=True)
class Coverage:
    """The covered share of the reference's mass, and whether it tells anything."""

    share: Estimate
    other: Estimate
    """The same samples against another version."""
    difference: Estimate
    informative: bool

    @property
    def words(self) -> str:
        """One line for a report."""
        if not self.informative:
            return (
                f"not informative: {self.share.value:.1%} of the reference's samples match this version, and another "
                f"version differs by no more than re-sampling this one ({self.difference.low:+.1%} to "
                f"{self.difference.high:+.1%})"
            )
        return f"{self.share.value:.1%} of the reference's samples match this version, {self.other.value:.1%} another"


def covered_mass(probabilities: Floats, covered: Booleans) -> Floats:
    """The reference's mass on covered responses, per prompt: exact, where all responses are known.

    Both arrays have the shape (prompts, responses); the probabilities of a prompt sum to 1.
    """
    return np.where(covered, probabilities, 0.0).sum(axis=1)


def exact_coverage(probabilities: Floats, covered: Booleans, bootstrap: Bootstrap) -> Estimate:
    """Mean covered mass over the prompts. Its interval is over prompts: of these the value is exact."""
    column = Column(covered_mass(probabilities, covered), np.arange(len(probabilities)))
    return resampled_means({"mass": column}, bootstrap)["mass"].share(bootstrap.level)


def text_coverage(matched: Booleans, other_matched: Booleans, prompts: Integers, bootstrap: Bootstrap) -> Coverage:
    """Share of the reference's samples that match this version, beside those that match another version.

    `other_matched` says of the same samples whether they match the completions of another version, such as the parent,
    or this one with its pairs moved to other prompts. The share is informative when the two differ by more than
    re-sampling the prompts of this version explains: when the interval of the difference does not hold 0.
    """
    columns = {
        "this": Column(matched.astype(np.float64), prompts),
        "other": Column(other_matched.astype(np.float64), prompts),
    }
    means = resampled_means(columns, bootstrap)
    difference = (means["this"] - means["other"]).estimate(bootstrap.level)
    informative = difference.low > 0 or difference.high < 0
    share, other = means["this"].share(bootstrap.level), means["other"].share(bootstrap.level)
    return Coverage(share, other, difference, informative)


def answer_coverage(rows: pl.DataFrame, samples: pl.DataFrame, bootstrap: Bootstrap) -> Coverage:
    """Share of the reference's samples that answer as a completion of the same prompt does (`final_answers`).

    Both frames have the columns `prompt` and `text`: all sides of all rows, and the reference's own samples, one at
    least. None of the samples may be one of the rows, which would match itself. The other version is this one with the
    completions of each prompt moved to another prompt.
    """
    said = rows.select("prompt", answer=final_answers(rows["text"])).unique()
    asked = samples.select("prompt", answer=final_answers(samples["text"]))
    matched, other = (_matched(asked, version) for version in (said, _moved(said, bootstrap.seed)))
    return text_coverage(matched, other, samples["prompt"].to_numpy(), bootstrap)


def _matched(asked: pl.DataFrame, said: pl.DataFrame) -> Booleans:
    found = asked.join(said.with_columns(found=True), on=["prompt", "answer"], how="left", maintain_order="left")
    return found["found"].fill_null(False).to_numpy()


def _moved(said: pl.DataFrame, seed: int) -> pl.DataFrame:
    """With the next prompt, in a random order, in place of each prompt."""
    prompts = np.random.default_rng(seed).permutation(np.unique(said["prompt"].to_numpy()))
    following = pl.DataFrame({"prompt": prompts, "next": np.roll(prompts, -1)})
    return said.join(following, on="prompt").select("answer", prompt="next")
