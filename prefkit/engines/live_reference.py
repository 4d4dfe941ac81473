"""A reference model with transformers in this process that can be moved to the policy in training."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel

from prefkit.engines.chat import Chat
from prefkit.engines.logprobs import TransformersReference
from prefkit.engines.synced_model import SyncedModel
from prefkit.sampling.weights import Weights
from prefkit.shift.protocol import Logprobs, Trained
from prefkit.shift.registry import ROLE


class LiveTransformersReference(TransformersReference):
    """`model_id` names the training, not the content of the weights."""

    def __init__(self, model: PreTrainedModel, chat: Chat, model_id: str, subject: str = ROLE) -> None:
        super().__init__(model, chat, model_id, subject)
        self._synced = SyncedModel(model, ROLE)

    @property
    def policy_version(self) -> int:
        return self._synced.version

    def sync(self, weights: Weights, policy_version: int) -> float:
        """Copies the weights into its own. Raises SyncError; see `SyncedModel.sync`."""
        return self._synced.sync(weights, policy_version)

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        """As the base class. Raises SyncError as well when the weights are not known."""
        _ = self.policy_version
        return super().logprobs(rows)

    def close(self) -> None:
        """Lets go of the weights."""
        del self._synced
        super().close()
