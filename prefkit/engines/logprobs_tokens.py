"""The tokens a trainer sees of a prompt and a completion: those of TRL 1.16's DPOTrainer for conversational rows.

Prompt and conversation are rendered by the chat template and tokenised separately. The completion begins where the two
part, which is after the opening of the assistant's turn unless the template writes that differently in a finished
conversation; its end, with whatever token ends a turn, is the template's. Of prompt and completion together the first
`max_length` tokens stay: TRL's `keep_start`, its default and the only truncation it does not deprecate. Every engine
scores these.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from math import isfinite

from prefkit.engines.chat import Chat, UnsupportedContentError
from prefkit.errors import RecipeError, SourceError
from prefkit.sampling.protocol import Message
from prefkit.shift.protocol import Logprobs, Text, Trained

Turns = tuple[tuple[str, str], ...]


def trained_tokens(
    chat: Chat, texts: Sequence[Text], max_length: int | None, context: int | None, subject: str
) -> list[Trained]:
    """The tokens of each text, in order. Known token ids stand after the tokens of the prompt as they are.

    Token ids of another tokenizer mean something else in this one: their completion is a text, tokenised anew. A
    prompt that fills `max_length` leaves no token of the completion: TRL drops such a pair. Where a template makes
    prompt and conversation part early, TRL takes the earlier place of chosen and rejected, and this the completion's
    own. Raises SourceError, naming the model as `subject`, when the template refuses a text, and RecipeError when what
    `max_length` leaves of a text is longer than `context`, the most tokens that the model can read.
    """
    prompts = _prompt_ids(chat, texts, subject)
    vocabulary = chat.vocabulary
    known = [_own_tokens(chat, vocabulary, text) for text in texts]
    tokenised = [text for text, ids in zip(texts, known, strict=True) if ids is None]
    whole = _rendered(tokenised, lambda text: chat.conversation_text([*text.prompt, *text.completion]), subject)
    conversations = iter(chat.token_ids(whole))
    rows: list[Trained] = []
    for text, completion in zip(texts, known, strict=True):
        prompt = prompts[_turns(text.prompt)]
        if completion is None:
            conversation = next(conversations)
            start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, conversation, strict=False)))
            row = Trained(text.id, conversation[:start], conversation[start:], 0, text.token_ids is not None)
        else:
            row = Trained(text.id, prompt, completion, 0)
        rows.append(_cut(row, max_length))
    if any(not row.prompt_ids for row in rows):
        raise SourceError(
            f"the chat template of {subject} writes a prompt and its conversation with no common beginning, expected "
            "one that continues the prompt: correct the template"
        )
    _require_context(rows, max_length, context, subject)
    return rows


def scored(row: Trained, values: Sequence[float], subject: str, dtype: str) -> Logprobs:
    """A row with what the model gave for its tokens. Raises SourceError when one of them is not finite."""
    if not all(map(isfinite, values)):
        raise SourceError(f"{subject} gave log-probs that are not finite in {dtype}: use dtype float32")
    return Logprobs(row.id, values)


def _cut(row: Trained, max_length: int | None) -> Trained:
    if max_length is None:
        return row
    kept = row.completion_ids[: max(0, max_length - len(row.prompt_ids))]
    return replace(row, prompt_ids=row.prompt_ids[:max_length], completion_ids=kept, cut=row.tokens - len(kept))


def _prompt_ids(chat: Chat, texts: Sequence[Text], subject: str) -> dict[Turns, list[int]]:
    """The tokens of each different prompt: those of a group are rendered once."""
    different = {_turns(text.prompt): text for text in texts}
    rendered = _rendered(list(different.values()), lambda text: chat.prompt_text(text.prompt), subject)
    return dict(zip(different, chat.token_ids(rendered), strict=True))


def _rendered(texts: Sequence[Text], render: Callable[[Text], str], subject: str) -> list[str]:
    rendered: list[str] = []
    refused: list[str] = []
    for text in texts:
        try:
            rendered.append(render(text))
        except UnsupportedContentError as error:
            refused.append(f"{text.id.hex()}: {error}")
    if refused:
        raise SourceError(
            f"the chat template of {subject} refuses {len(refused)} of {len(texts)} conversations, the first is "
            f"{refused[0]}; drop them, or use a template that accepts them"
        )
    return rendered


def _own_tokens(chat: Chat, vocabulary: int, text: Text) -> list[int] | None:
    """The tokens that a text was sampled as, where they read as the text, which a stop string may have shortened, in
    this tokenizer, too.
    """
    if text.token_ids is None or max(text.token_ids, default=0) >= vocabulary:
        return None
    said = "".join(message["content"] for message in text.completion)
    return list(text.token_ids) if chat.text(text.token_ids).startswith(said) else None


def _require_context(rows: Sequence[Trained], max_length: int | None, context: int | None, subject: str) -> None:
    lengths = [len(row.prompt_ids) + row.tokens for row in rows]
    if context is not None and (longer := sum(length > context for length in lengths)):
        raise RecipeError(
            f"{subject} reads at most {context} tokens, got {longer} of {len(rows)} texts that are longer "
            f"(up to {max(lengths)} tokens) with a max_length of {max_length}: set max_length to {context} or less"
        )


def _turns(messages: Sequence[Message]) -> Turns:
    return tuple((message["role"], message["content"]) for message in messages)
