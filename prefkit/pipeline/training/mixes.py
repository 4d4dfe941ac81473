"""A mix as a recipe asks for it: which sources a run draws its rows from, and when.

`live` is the recipe's own sampling; every other source is a version, whose rows are copied into the run's folder.
"""

from collections.abc import Mapping

from prefkit.errors import RecipeError
from prefkit.identity import Json
from prefkit.pipeline.recipe import TrainConfig
from prefkit.store.versions import Version, Versions
from prefkit.stream.mixing import Mix, Phase

LIVE = "live"


def sources_of(train: TrainConfig) -> list[str]:
    """The sources of the mix, in the order they are named; none without a mix."""
    return list(dict.fromkeys(name for phase in train.mix for name in phase.weights))


def phases_of(train: TrainConfig) -> tuple[Phase, ...]:
    """The phases of the mix, in optimizer steps."""
    return tuple(Phase(phase.weights, phase.until) for phase in train.mix)


def refuse_mix(train: TrainConfig) -> None:
    """Raises RecipeError for a mix that cannot be followed, or whose sources `sync_period` and `reference` rule out."""
    if not train.mix:
        return
    Mix(phases_of(train))
    drawn = {name for phase in train.mix for name, weight in phase.weights.items() if weight}
    if train.sync_period is not None and LIVE not in drawn:
        raise RecipeError(
            f"train.sync_period is {train.sync_period:g} and train.mix gives no weight to 'live', expected some: add "
            "`live: 1`, or set train.sync_period to null"
        )
    if train.sync_period is None and LIVE in sources_of(train):
        raise RecipeError(
            "train.mix names 'live' and train.sync_period is null, expected versions only: set train.sync_period to "
            "sample while training, or take `live` out (a version of that name is written live@v1)"
        )
    if train.reference == "reset":
        raise RecipeError(
            "train.reference is 'reset' and train.mix names versions, expected 'fixed' or 'behavior': their rows keep "
            "the sums of one reference; change one of them"
        )


def placed_mix(train: TrainConfig, versions: Versions) -> tuple[TrainConfig, dict[str, Version]]:
    """The block with every version of its mix by label, and these versions.

    Raises NotFoundError for a version that is not there, RecipeError for one that is named twice.
    """
    found = {name: versions.get(name) for name in sources_of(train) if name != LIVE}
    labels = {name: version.label for name, version in found.items()}
    for label in labels.values():
        twice = [other for other in labels if labels[other] == label]
        if len(twice) > 1:
            raise RecipeError(
                f"train.mix names {label} as {' and as '.join(map(repr, twice))}, expected one name: use {label!r}"
            )
    placed = tuple(
        phase.model_copy(update={"weights": {labels.get(name, name): w for name, w in phase.weights.items()}})
        for phase in train.mix
    )
    return train.model_copy(update={"mix": placed}), {version.label: version for version in found.values()}


def decisive(train: TrainConfig, versions: Mapping[str, Version]) -> Json:
    """What of the mix decides rows: weights in their order, by the content of the versions rather than their names."""
    content = {label: version.manifest["content_hash"] for label, version in versions.items()}
    return [
        {"weights": [[content.get(name, name), float(w)] for name, w in phase.weights.items()], "until": phase.until}
        for phase in train.mix
    ]
