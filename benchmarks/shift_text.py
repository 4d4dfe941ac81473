"""Real text: 227 models' answers to AlpacaEval prompts, under a small reference trained on other prompts of it.

Sources are ranked by how much less likely their answers are than the reference's own, and by their off-support share.
Rows are ranked by `surprise`, and it is told where rows end up that do not belong there: the constant text of
NullModel, texts that hold mojibake, texts in other scripts, German news, and texts decoded wrongly on purpose.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from shift_models import BOOTSTRAP, Policy, as_rows, digits, drawn, kept, mean_of, scored
from shift_text_model import FAMILY, LONGEST, Texts, alpaca_eval, text_reference

from prefkit.hygiene.detectors import mojibake
from prefkit.shift.bootstrap import Estimate
from prefkit.shift.coverage import answer_coverage
from prefkit.shift.data import ShiftData, shift_data
from prefkit.shift.distances import auc
from prefkit.shift.report import ShiftReport, report
from prefkit.shift.scores import row_scores
from prefkit.shift.verdict import Limits

HELD_OUT, RANKED = 120, 40
OWN, FRESH, SPLITS = 4, 4, 20
MAX_LENGTH = 256
READ = 300
"""Characters of a text in another script that MAX_LENGTH leaves, at least."""
MADE = 60
ORDINARY = "ordinary"
OTHER_SCRIPT = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Cyrillic}\p{Arabic}\p{Thai}]"


def rows_of(texts: Texts, data: Path) -> pl.DataFrame:
    """All completions of RANKED prompts, the odd ones of the other prompts, and made ones: with their `kind`."""
    text = pl.col("text")
    found = texts.completions.with_columns(
        kind=pl.when(source="NullModel").then(pl.lit("NullModel"))
        .when(_elsewhere(text.str.head(READ))).then(pl.lit("other script"))
        .when(_elsewhere(text)).then(pl.lit("other script, but not in the part that is read"))
        .when(mojibake(texts.completions["text"])).then(pl.lit("holds mojibake"))
        .otherwise(pl.lit(ORDINARY))
    )  # fmt: skip
    found = found.filter((pl.col("prompt") < RANKED) | (pl.col("kind") != ORDINARY))
    return pl.concat([found, *_made(found, data)])


def _elsewhere(text: pl.Expr) -> pl.Expr:
    return text.str.count_matches(OTHER_SCRIPT) > 0.3 * text.str.len_chars()


def _made(found: pl.DataFrame, data: Path) -> list[pl.DataFrame]:
    """Texts with bytes beyond ASCII decoded as Latin-1, and German news as answers."""
    family = found.filter(pl.col("source").str.contains(FAMILY, literal=True), kind=ORDINARY)
    accented = found.filter(kind="other script")
    broken = [text.encode().decode("latin-1") for text in accented["text"]]
    quoted = [_misread(text) for text in family["text"].head(MADE)]
    german = pl.read_parquet(data / "wmt23_mqm" / "segments_ende.parquet")["target"]
    german = german.filter(german.str.len_chars() > 150).unique(maintain_order=True).head(MADE).to_list()
    prompts = np.arange(MADE) % RANKED
    return [
        _frame(accented["prompt"].to_list(), broken, "other script, decoded as Latin-1"),
        _frame(family["prompt"].head(MADE).to_list(), quoted, "quotes and dashes decoded wrongly"),
        _frame(prompts[: len(german)].tolist(), german, "German"),
    ]


def _misread(text: str) -> str:
    """An English text with typographic quotes and dashes, whose UTF-8 was read as Windows-1252."""
    nice = text.replace("'", "\u2019").replace('"', "\u201c").replace(" - ", " \u2013 ").replace(".", "\u2026", 1)
    return nice.encode().decode("cp1252", "replace")


def _frame(prompts: list[int], texts: list[str], kind: str) -> pl.DataFrame:
    return pl.DataFrame({"prompt": prompts, "source": kind, "text": texts, "kind": kind})


def ranked_sources(found: ShiftReport) -> list[dict[str, object]]:
    """All sources, the least likely first."""
    lines: list[dict[str, object]] = []
    for name, scope in found.sources.items():
        side = scope.sides[0]
        assert side.against_samples is not None
        lines.append(
            {"source": name, "nll_gap": _told(side.against_samples.nll_gap), "off_support": _told(side.off_support)}
        )
    return sorted(lines, key=lambda line: -line["nll_gap"][0])


def ranked_rows(kinds: pl.Series, surprise: pl.Series, off: pl.Series) -> dict[str, dict[str, object]]:
    """Where the rows of each kind stand in the list sorted by surprise, place 1 on top."""
    places = surprise.rank("ordinal", descending=True)
    ordinary = surprise.filter(kinds == ORDINARY).to_numpy()
    odd = int((kinds != ORDINARY).sum())
    found: dict[str, dict[str, object]] = {}
    for kind in sorted(set(kinds) - {ORDINARY}):
        place, of = places.filter(kinds == kind), surprise.filter(kinds == kind).to_numpy()
        outside = off.filter(kinds == kind).to_numpy()
        found[kind] = {
            "rows": len(of), "off_support": digits(float(outside.mean())),
            "best": int(place.min()), "median": digits(place.median()), "worst": int(place.max()),
            "among_the_first": digits(float((place <= odd).to_numpy().mean())), "auc": digits(auc(of, ordinary)),
        }  # fmt: skip
    return {"list": {"rows": len(places), "odd": odd}, **found}


def _told(estimate: Estimate) -> list[float]:
    return [digits(estimate.value), digits(estimate.low), digits(estimate.high)]


def _perplexity(frame: pl.DataFrame) -> float:
    return digits(float(np.exp(-frame["logps"].to_numpy().sum() / frame["tokens"].to_numpy().sum())))


def own_draws(policy: Policy, texts: Texts, work: Path) -> pl.DataFrame:
    """The reference's own: OWN as the yardstick, FRESH as rows of which 1 % should be off-support."""

    def make() -> pl.DataFrame:
        return scored(
            policy.reference, drawn(policy, texts.prompts, range(OWN + FRESH), 0, LONGEST), texts.prompts, MAX_LENGTH
        )

    return kept(work / "text-own.parquet", make)


def calibration(own: pl.DataFrame) -> dict[str, float | int]:
    """Off-support share of the reference's own draws against OWN others per prompt, over random ways to part them."""
    shares: list[float] = []
    for seed in range(SPLITS):
        few = np.random.default_rng(seed).choice(OWN + FRESH, OWN, replace=False)
        ours = pl.col("draw").is_in(few)
        found = row_scores(_data(own.filter(~ours), own.filter(ours)), seed=seed)
        shares.append(float(found.rows["off_support"].to_numpy().mean()))
    return mean_of(shares)


def measured(texts: Texts, rows: pl.DataFrame, own: pl.DataFrame) -> dict[str, object]:
    """Every number, from scored rows and samples."""
    samples = own.filter(pl.col("draw") < OWN)
    ordinary = rows.filter(
        pl.col("prompt") < RANKED, pl.col("source").is_in(texts.completions["source"].unique().implode())
    )
    by_source = report(_data(ordinary, samples), Limits(), bootstrap=BOOTSTRAP)
    sources = ranked_sources(by_source)
    whole = row_scores(_data(rows, samples))
    family = ordinary.filter(pl.col("source").str.contains(FAMILY, literal=True))
    coverage = answer_coverage(family, samples, BOOTSTRAP)
    return {
        "prompts": RANKED, "rows": ordinary.height, "own_samples": OWN,
        "perplexity": {
            "family": _perplexity(family), "all_sources": _perplexity(ordinary), "own_samples": _perplexity(samples),
        },
        "own_fresh_rows": calibration(own),
        "verdict": by_source.verdict.words,
        "family_places": [place for place, line in enumerate(sources, 1) if FAMILY in str(line["source"])],
        "sources": sources,
        "row_list": ranked_rows(rows["kind"], whole.rows["surprise"], whole.rows["off_support"]),
        "coverage": coverage.words,
    }  # fmt: skip


def _data(rows: pl.DataFrame, samples: pl.DataFrame) -> ShiftData:
    return shift_data(as_rows(rows), samples)


def real_text(work: Path, data: Path) -> Mapping[str, object]:
    """Trains, samples, scores; each kept in `work` once made."""
    texts = alpaca_eval(data / "alpaca_eval", HELD_OUT)
    policy = text_reference(texts, work / "text-model")
    own = own_draws(policy, texts, work)
    rows = kept(
        work / "text-rows.parquet", lambda: scored(policy.reference, rows_of(texts, data), texts.prompts, MAX_LENGTH)
    )
    size = sum(weight.numel() for weight in policy.model.parameters())
    trained = {"parameters": size, "vocabulary": len(policy.tokenizer), "lessons": len(texts.lessons)}
    return {"reference": trained, **measured(texts, rows, own)}
