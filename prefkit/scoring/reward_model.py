"""Where a reward model is, and whose weights it has: known without loading it."""

from pathlib import Path

from prefkit.sampling.policy import policy_folder, policy_id
from prefkit.scoring.config import RewardModelBase

ROLE = "reward model"


def weights_id(config: RewardModelBase, folder: Path, cache: Path | None = None) -> str:
    """A digest of the model's weights, configuration, tokenizer and chat template: the path does not matter.

    `cache` remembers the digests of large files. Raises SourceError for what is no model folder with a chat template.
    """
    return policy_id(_placed(config, folder), cache, config.revision, ROLE)


def reward_model_folder(config: RewardModelBase, folder: Path) -> Path:
    """The model's folder; a relative path is one in `folder`, where the recipe is, and else one from here."""
    return policy_folder(_placed(config, folder), config.revision, ROLE)


def _placed(config: RewardModelBase, folder: Path) -> str:
    inside = folder / config.model
    return str(inside.resolve()) if inside.exists() else config.model
