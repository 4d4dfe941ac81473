"""`prefkit check`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.reporters import reporter
from prefkit.cli.shift import CROSSED
from prefkit.errors import RecipeError
from prefkit.pipeline.check.checking import check as checked
from prefkit.pipeline.check.stage import Checked
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.rebuild import recorded_yardstick
from prefkit.pipeline.recipe import POLICY, CheckConfig, Recipe
from prefkit.pipeline.resolve import placed_reference, resolved_check, yardstick_of
from prefkit.shift.figures import every_figure, require_matplotlib
from prefkit.shift.rendering import lines
from prefkit.store.files import disk_trouble
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

_Whole = Annotated[int | None, Parameter(validator=Number(gte=1))]


def check(
    label: str,
    /,
    *,
    reference: str | None = None,
    revision: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    backend: Literal["transformers", "vllm"] | None = None,
    device: str | None = None,
    samples: _Whole = None,
    max_new_tokens: _Whole = None,
    max_length: _Whole = None,
    max_off_support: Annotated[float | None, Parameter(validator=Number(gte=0, lte=1))] = None,
    max_nll_gap: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    rows: Path | None = None,
    figures: Path | None = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> int:
    """Tell whether a version fits the model it will train: its rows against what the reference itself would write.

    What is not given is as in the `check` block of the version's recipe, where it has one. Exits with 1 when a limit is
    crossed.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    reference
        The model to compare with: a folder, a Hub id, or `policy`, that of the version's recipe.
    revision
        A Hub revision of it.
    dtype
        Number format of its weights: float32, or as in the recipe.
    backend
        What runs it: transformers, or as in the recipe.
    device
        auto, cpu, cuda or cuda:N.
    samples
        How many completions of its own the reference draws per prompt: 4, or as in the recipe. They are kept.
    max_new_tokens
        Longest of these: as the recipe samples, or 512.
    max_length
        Prompt and completion as the trainer will cut them, in tokens: 1024, or as in the recipe.
    max_off_support
        Exit with 1 when a larger share of rows is outside what the reference would write.
    max_nll_gap
        Exit with 1 when a side is less likely than the reference's own samples by more nats per token.
    rows
        Also write what is known of each row to this Parquet file.
    figures
        Also draw a figure for each statistic into this folder.
    json
        Print JSON.
    """
    target = opened(workspace)
    version = target.versions.get(label)
    if figures:
        require_matplotlib()
    given = {
        "reference": reference, "revision": revision, "dtype": dtype, "backend": backend, "device": device,
        "samples": samples, "max_new_tokens": max_new_tokens, "max_length": max_length,
        "max_off_support": max_off_support, "max_nll_gap": max_nll_gap,
    }  # fmt: skip
    yardstick = asked_yardstick(version, target, {name: value for name, value in given.items() if value is not None})
    with reporter() as progress:
        found = checked(version, target, yardstick, progress)
    if rows:
        found.scores.by_row().write_parquet(rows)
    if figures:
        _drawn(found, figures)
    if json:
        say_json(found.report.to_json())
    else:
        for line in lines(found.report):
            say(line)
    return 0 if found.report.passed else CROSSED


def asked_yardstick(version: Version, workspace: Workspace, given: Mapping[str, object]) -> Yardstick:
    """The check of the version's recipe with what is given in its place; defaults where it has none.

    Raises RecipeError without a reference, SourceError for one that is no model.
    """
    recipe, folder = Recipe.model_validate(version.provenance["recipe"]), Path(version.provenance["folder"])
    recorded = recorded_yardstick(version)
    if "reference" in given:
        _require_reference(version, recipe, given)
        known = recipe.check.model_dump(exclude={"revision"}) if recipe.check else {}
        config = CheckConfig.model_validate({**known, **given, "reference": _absolute(str(given["reference"]))})
        return resolved_check(config, recipe, folder, workspace.policy_cache)
    if "revision" in given:
        raise RecipeError("--revision stands alone, expected --reference beside it: name the model")
    if recorded is None:
        raise RecipeError(
            f"the recipe of {version.label} has no `check`, expected --reference: name a model folder or a Hub id"
        )
    # The model itself is not looked at: it may be gone, and all there is to know be stored.
    config = CheckConfig.model_validate({**recorded.config.model_dump(), **given})
    return yardstick_of(config, recipe, placed_reference(config, recipe, folder), recorded.model_id)


def _require_reference(version: Version, recipe: Recipe, given: Mapping[str, object]) -> None:
    if given["reference"] != POLICY:
        return
    if recipe.policy is None:
        raise RecipeError(
            f"--reference is 'policy' and the recipe of {version.label} has none, expected a model folder (./policy is "
            "one) or a Hub id"
        )
    if "revision" in given:
        raise RecipeError("--revision stands beside --reference policy, expected a Hub id: the policy has its own")


def _absolute(reference: str) -> str:
    return str(Path(reference).resolve()) if reference != POLICY and Path(reference).exists() else reference


def _drawn(found: Checked, folder: Path) -> None:
    """Draws every figure into the folder, one PNG each."""
    with disk_trouble(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in every_figure(found.scores, found.report).items():
            figure.savefig(folder / f"{name}.png", dpi=150)
