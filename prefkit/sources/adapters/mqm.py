"""MQM: errors that professional raters marked in translations, joined with the segments they rated.

Columns: `system`, `doc`, `doc_seg_id` (or `seg_id`), `source`, `target`, `rater`, `category`, `severity`; one row per
marked error, or one `No-error` row. The source segment is the prompt, the target a completion of the system, and what
one rater said of one translation is one score on the aspect `mqm`: minus the sum of the weights of the errors, 0 being
best (Freitag et al. 2021, Experts, Errors, and Context, section 3.2: Minor 1, Major 5, Minor Fluency/Punctuation 0.1,
Non-translation 25, Neutral 0). The rationale lists the errors.

Rows with the severity `HOTW-test` are planted errors that check the rater's attention; they are no ratings of the
system (`unrated`) and the rater's other rows of the segment stay. An unknown severity makes the rater's whole score of
that segment unparsable, never a smaller sum. The marks `<v>` and `</v>`, which the published tables put around each
row's error, are taken out of the texts: else one translation would be as many as it has errors. Segments of different
documents stay apart even when their texts are equal.
"""

import polars as pl

from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.sources.adapters.columns import first_column, needed_text_of, require_columns
from prefkit.sources.adapters.frames import reference, shape
from prefkit.sources.columns import first_refusal
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import Shaped

ASPECT = "mqm"
SEVERITIES = {"No-error": 0.0, "no-error": 0.0, "Neutral": 0.0, "Minor": 1.0, "Major": 5.0}
_PLANTED = "HOTW-test"
_NON_TRANSLATION = 25.0
_MINOR_PUNCTUATION = 0.1
_ERROR_MARKS = r"</?v>"
_SEGMENT = ("doc", "segment")
_RATING = ("system", *_SEGMENT, "rater")


def mqm(rows: SourceRows) -> Shaped:
    """One completion per system and segment, one score per rater of it."""
    segment = first_column(rows, ("doc_seg_id", "seg_id"))
    columns = ("system", "doc", segment, "source", "target", "rater", "category", "severity")
    require_columns(rows, "mqm", columns)
    fields = {column: needed_text_of(rows, column) for column in columns}
    texts = pl.DataFrame([found["text"].alias(column) for column, found in fields.items()])
    errors = texts.rename({segment: "segment"}).with_columns(
        *first_refusal(list(fields.values())).get_columns(),
        pl.col("source", "target").str.replace_all(_ERROR_MARKS, ""),
        row=rows.numbers,
    )
    named = errors.with_columns(
        prompt=pl.concat_str("doc", pl.lit("#"), "segment"),
        key=pl.concat_str("system", pl.lit("@"), "doc", pl.lit("#"), "segment"),
        kind=pl.lit("string"),
    )
    usable, broken = named.filter(pl.col("outcome").is_null()), named.filter(pl.col("outcome").is_not_null())
    return shape(
        rows,
        prompts=_first(usable, "source", _SEGMENT, key="prompt"),
        completions=_first(usable, "target", ("system", *_SEGMENT), key="key"),
        scores=pl.concat([_ratings(usable), broken.select("row", "outcome", "detail")], how="diagonal"),
    )


def _first(errors: pl.DataFrame, text: str, of: tuple[str, ...], key: str) -> pl.DataFrame:
    """The distinct texts, each at the first row that has it: two texts under one key are both there to be seen."""
    distinct = errors.unique([*of, text], keep="first", maintain_order=True)
    return distinct.select("row", "prompt", "kind", text=text, key=key, model="system")


def _ratings(errors: pl.DataFrame) -> pl.DataFrame:
    planted = pl.col("severity") == _PLANTED
    marked = errors.filter(~planted.fill_null(False)).with_columns(weight=_weight())
    said = pl.format("{} {}", pl.col("severity").fill_null("?"), pl.col("category").fill_null("?"))
    scores = marked.group_by(_RATING, maintain_order=True).agg(
        pl.col("row", "prompt", "key").first(),
        score=pl.when(pl.col("weight").is_not_null().all()).then(0.0 - pl.col("weight").sum().round(1)),
        rationale=said.str.join("; "),
    )
    checks = errors.filter(planted).select(
        "row",
        outcome=pl.lit(ImportOutcome.UNRATED.value),
        detail=pl.lit("a planted error that checks the rater's attention"),
    )
    ratings = scores.with_columns(
        reference(key=pl.col("key")).alias("completion"),
        failure=pl.when(pl.col("score").is_null()).then(pl.lit(ScoreFailureKind.UNPARSABLE.value)),
        raw="rationale",
        scorer="rater",
        aspect=pl.lit(ASPECT),
    )
    return pl.concat([ratings, checks], how="diagonal")


def _weight() -> pl.Expr:
    category, severity = pl.col("category").fill_null(""), pl.col("severity")
    return (
        pl.when(severity.is_in(["Major", "Minor"]) & category.str.starts_with("Non-translation"))
        .then(_NON_TRANSLATION)
        .when((severity == "Minor") & category.str.starts_with("Fluency/Punctuation"))
        .then(_MINOR_PUNCTUATION)
        .otherwise(severity.replace_strict(SEVERITIES, default=None, return_dtype=pl.Float64))
    )
