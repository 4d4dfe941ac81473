"""What engines that take token ids have in common: requests become prompts in tokens, and texts end at stop strings."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefkit.engines.chat import Chat, UnsupportedContentError, rendered
from prefkit.sampling.protocol import SampleFailure, SampleFailureKind, SampleRequest


@dataclass(frozen=True, slots=True)
class Planned:
    """A request with its prompt as the policy reads it."""

    request: SampleRequest
    token_ids: Sequence[int]


def planned(
    chat: Chat, requests: Sequence[SampleRequest], context: int | None, new_tokens: int
) -> tuple[list[Planned], list[SampleFailure]]:
    """The requests that can be sampled within a context of that many tokens, and the failures of the others."""
    fitting: list[Planned] = []
    failures: list[SampleFailure] = []
    for request, prompt in zip(requests, rendered(chat, [r.prompt for r in requests]), strict=True):
        if isinstance(prompt, UnsupportedContentError):
            kind, detail = SampleFailureKind.UNSUPPORTED_CONTENT, str(prompt)
        elif excess := _excess(len(prompt), context, new_tokens):
            kind, detail = SampleFailureKind.PROMPT_TOO_LONG, excess
        else:
            fitting.append(Planned(request, prompt))
            continue
        failures.append(SampleFailure(request.completion_id, kind, detail))
    return fitting, failures


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string begins, or None."""
    return min((place for place in (text.find(s) for s in stop) if place >= 0), default=None)


def _excess(prompt_tokens: int, context: int | None, new_tokens: int) -> str | None:
    """Why a prompt of this length does not fit, or None."""
    if context is None or prompt_tokens + new_tokens <= context:
        return None
    return f"{prompt_tokens} prompt tokens and {new_tokens} new ones, expected at most {context} in all"
