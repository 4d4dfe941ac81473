"""AlpacaEval: `model_outputs.json` and `annotations.json` as its repository holds them.

`outputs`: `instruction`, `output`, `generator`, and `dataset` where there is one. The instruction is the prompt, the
output a completion of the model `generator`, the dataset the prompt's source.

`annotations`: `instruction`, `output_1`, `generator_1`, `output_2`, `generator_2`, `annotator`, `preference`; output 1
is the baseline. Each row is a comparison by the annotator of the very texts in the row: they may differ from the
outputs file of the same model. `preference` runs from 1 (output 1 is better) to 2; what lies between is graded, 1.5
is a draw and so is the 0 of older annotators; null, and anything else, is a reply that could not be read. A reply with
a `concise_explanation` (`raw_completion`) gives the rationale. The order in which the texts were shown is not told.
"""

import polars as pl

from prefkit.sources.adapters.columns import cells_of, named_cells, needed_text_of, require_columns, text_of
from prefkit.sources.adapters.frames import preferred, shape
from prefkit.sources.adapters.nested import object_fields
from prefkit.sources.adapters.pairs import pair_records
from prefkit.sources.adapters.prompts import also_refused, row_prompts, with_fields
from prefkit.sources.columns import first_refusal
from prefkit.sources.config import ComparisonFields
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

_ANNOTATIONS = (
    "instruction",
    "output_1",
    "generator_1",
    "output_2",
    "generator_2",
    "annotator",
    "preference",
)
_CELLS = {"prompt": "instruction", "a": "output_1", "b": "output_2"}
_PREFERENCE = ComparisonFields(
    scorer="annotator", preference="preference", scale=(2.0, 1.0), values={"0": "tie"}, missing="unparsable"
)


def outputs(rows: SourceRows) -> Shaped:
    """One completion per row."""
    require_columns(rows, "alpaca_eval_outputs", ("instruction", "output", "generator"))
    prompts = row_prompts(rows, "instruction")
    model = text_of(rows, "generator")
    completions = cells_of(rows, "output").with_columns(row=rows.numbers, prompt=prompts["key"], model=model["text"])
    return shape(
        rows,
        prompts=with_fields(rows, prompts, {"source": "dataset"}),
        completions=also_refused(completions, model),
    )


def annotations(rows: SourceRows) -> Shaped:
    """Two completions and one comparison per row."""
    require_columns(rows, "alpaca_eval_annotations", _ANNOTATIONS)
    models = [text_of(rows, f"generator_{number}") for number in (1, 2)]
    annotator = needed_text_of(rows, "annotator")
    texts = [named_cells(rows, column, name) for name, column in _CELLS.items()]
    pairs = pl.concat([*texts, first_refusal(models)], how="horizontal").with_columns(
        row=rows.numbers, model_a=models[0]["text"], model_b=models[1]["text"]
    )
    records = pair_records(pairs)
    said = object_fields(rows, "raw_completion", ["concise_explanation"])
    comparisons = pl.concat([cells_of(rows, "preference"), records.pairs], how="horizontal").with_columns(
        scorer=annotator["text"],
        aspect=pl.lit(OVERALL),
        order=pl.lit("unknown"),
        rationale=cells_of(said, "concise_explanation")["text"],
    )
    return shape(
        rows,
        prompts=with_fields(rows, records.prompts, {"source": "dataset"}),
        completions=records.completions,
        comparisons=preferred(also_refused(comparisons, annotator), _PREFERENCE),
    )
