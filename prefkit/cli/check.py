"""`prefkit check`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.reporters import reporter
from prefkit.pipeline.checking import CheckOptions
from prefkit.pipeline.checking import check as checked
from prefkit.shift.registry import Reference
from prefkit.shift.rendering import lines
from prefkit.shift.verdict import Limits

CROSSED = 1


def check(
    label: str,
    /,
    *,
    reference: str,
    revision: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: str = "auto",
    samples: Annotated[int, Parameter(validator=Number(gte=1))] = 4,
    max_new_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = 512,
    max_length: Annotated[int, Parameter(validator=Number(gte=1))] = 1024,
    max_off_support: Annotated[float | None, Parameter(validator=Number(gte=0, lte=1))] = None,
    max_nll_gap: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    rows: Path | None = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> int:
    """Tell whether a version fits the model it will train: its rows against what the reference itself would write.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    reference
        The model to compare with: a folder or a Hub id.
    revision
        A Hub revision of it.
    dtype
        Number format of its weights.
    device
        auto, cpu, cuda or cuda:N.
    samples
        How many completions of its own the reference draws per prompt. They are kept.
    max_new_tokens
        Longest of these.
    max_length
        Prompt and completion as the trainer will cut them, in tokens.
    max_off_support
        Exit with 1 when a larger share of rows is outside what the reference would write.
    max_nll_gap
        Exit with 1 when a side is less likely than the reference's own samples by more nats per token.
    rows
        Also write what is known of each row to this Parquet file.
    json
        Print JSON.
    """
    target = opened(workspace)
    options = CheckOptions(
        Reference(reference, revision, dtype, device), Limits(max_off_support, max_nll_gap), samples, max_new_tokens,
        max_length,
    )  # fmt: skip
    with reporter() as progress:
        found = checked(target.versions.get(label), target, options, progress)
    if rows:
        found.scores.by_row().write_parquet(rows)
    if json:
        say_json(found.report.to_json())
    else:
        for line in lines(found.report):
            say(line)
    return 0 if found.report.passed else CROSSED
