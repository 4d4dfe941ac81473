"""Test prompts that the training split holds as well."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from prefkit.identity import mix64
from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity, of, such_as
from prefkit.pipeline.doctor.folding import folded
from prefkit.pipeline.prompts import KEPT
from prefkit.pipeline.rows import TEST, TRAIN, split_of

RUN = 13
"""Words of a run that two texts have in common only if one was made from the other (Brown et al. 2020, appendix C)."""
COMMON = 3
"""Runs that more training prompts have are instructions, not content."""
SHARE = 0.5
"""A test prompt has leaked when so many of its runs stand in training prompts."""
Runs = npt.NDArray[np.uint64]


def same_text(seen: Examined) -> Iterator[Finding]:
    """Test prompts that are training prompts, but for case, spacing and punctuation."""
    tasks = seen.tasks.with_columns(split_of(seen.tasks, seen.recipe.split), folded=folded(seen.tasks["text"]))
    train = tasks.filter(pl.col("split") == TRAIN)["folded"]
    test = tasks.filter(pl.col("split") == TEST)
    leaked = test.filter(pl.col("folded").is_in(train.implode()))
    if leaked.height:
        yield Finding(
            "leakage", Severity.ERROR,
            f"{of(leaked.height, test.height, 'test prompt')} {_are(leaked.height)} in the training split too, but for "
            f"case, spacing and punctuation{such_as(leaked['text'])}",
            "keep each on one side", leaked.height,
        )  # fmt: skip


def shared_runs(seen: Examined) -> Iterator[Finding]:
    """Test prompts of which half stands word for word in training prompts."""
    kept = seen.tasks.filter(pl.col("outcome") == KEPT)
    kept = kept.with_columns(split_of(kept, seen.recipe.split), folded=folded(kept["text"]))
    train, test = (kept.filter(pl.col("split") == side) for side in (TRAIN, TEST))
    if train.is_empty() or test.is_empty():
        return
    leaked = test.filter(shares_of_runs(test["folded"], train["folded"]) >= SHARE)
    leaked = leaked.filter(~pl.col("folded").is_in(train["folded"].implode()))
    if leaked.height:
        yield Finding(
            "leakage", Severity.WARNING,
            f"{of(leaked.height, test.height, 'test prompt')} {_are(leaked.height)} half or more made of runs of {RUN} "
            f"words that training prompts have{such_as(leaked['text'])}",
            "look at them; keep what was made from one text on one side", leaked.height,
        )  # fmt: skip


def shares_of_runs(texts: pl.Series, others: pl.Series) -> pl.Series:
    """For each text, the share of its runs of `RUN` words that 1 to `COMMON` of the others have; 0 without a run."""
    known = _runs(others)
    rare = known.unique().group_by("run").len().filter(pl.col("len") <= COMMON)["run"]
    own = _runs(texts).with_columns(found=pl.col("run").is_in(rare.implode()))
    shares = own.group_by("text").agg(pl.col("found").mean())
    numbers = pl.DataFrame({"text": pl.Series(np.arange(len(texts)), dtype=pl.UInt32)})
    return numbers.join(shares, on="text", how="left", maintain_order="left")["found"].fill_null(0.0)


def _runs(texts: pl.Series) -> pl.DataFrame:
    """The hashes of all runs of words: `text` (number) and `run`."""
    words = texts.str.extract_all(r"[\p{L}\p{N}]+")
    flat = pl.DataFrame({"text": pl.Series(np.arange(len(texts)), dtype=pl.UInt32), "word": words}).explode(
        "word", empty_as_null=False
    )
    number, word = flat["text"].to_numpy(), flat["word"].hash().to_numpy()
    starts = max(0, len(word) - RUN + 1)
    run: Runs = np.zeros(starts, np.uint64)
    for place in range(RUN):
        run = mix64(run ^ word[place : place + starts])
    within = number[:starts] == number[RUN - 1 :] if starts else np.zeros(0, np.bool_)
    return pl.DataFrame({"text": number[:starts][within], "run": run[within]})


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
