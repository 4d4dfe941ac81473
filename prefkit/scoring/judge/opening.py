"""From a recipe's judge to one that answers, over its endpoint and within the build's budget."""

from pathlib import Path

from prefkit.scoring.config import AspectJudgeScorer, JudgeScorer, PairwiseJudgeScorer
from prefkit.scoring.judge.aspects import AspectJudge
from prefkit.scoring.judge.batch import BatchTransport
from prefkit.scoring.judge.calls import Transport
from prefkit.scoring.judge.endpoint import Endpoint
from prefkit.scoring.judge.identity import call_groups, judged_aspects
from prefkit.scoring.judge.live import LiveTransport
from prefkit.scoring.judge.pairwise import PairwiseJudge
from prefkit.spending import Budget


def aspect_judge(
    config: AspectJudgeScorer, folder: Path, scorer_id: int, budget: Budget, batches: Path | None
) -> AspectJudge:
    """The judge of an entry; `batches` is the folder where submitted batches are remembered.

    Raises what its rubric, endpoint, key and price give cause for, in one line.
    """
    return AspectJudge(
        call_groups(config, folder),
        transport_of(config, budget, batches),
        scorer_id=scorer_id,
        seed=config.seed,
        max_tokens=config.max_tokens,
    )


def pairwise_judge(
    config: PairwiseJudgeScorer, folder: Path, scorer_id: int, budget: Budget, batches: Path | None
) -> PairwiseJudge:
    """The judge of an entry; parameters and errors as in `aspect_judge`."""
    return PairwiseJudge(
        judged_aspects(config, folder),
        transport_of(config, budget, batches),
        scorer_id=scorer_id,
        seed=config.seed,
        max_tokens=config.max_tokens,
    )


def transport_of(config: JudgeScorer, budget: Budget, batches: Path | None) -> Transport:
    """How the judge's calls travel. Batches need a folder to be remembered in."""
    endpoint = Endpoint(
        config.endpoint, config.model, config.temperature, config.api_key_env, config.price, config.timeout_s
    )
    match config.transport:
        case "live":
            return LiveTransport(endpoint, budget, config.concurrency)
        case "batch":
            assert batches is not None
            return BatchTransport(endpoint, batches, budget, config.poll_s)
