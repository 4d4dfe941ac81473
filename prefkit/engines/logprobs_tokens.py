"""The tokens a trainer sees of a prompt and a completion: those of TRL 1.16's DPOTrainer for conversational rows.

Prompt and conversation are rendered by the chat template and tokenised separately. The completion begins where the two
part, which is after the opening of the assistant's turn unless the template writes that differently in a finished
conversation; its end, with whatever token ends a turn, is the template's. Of prompt and completion together the first
`max_length` tokens stay.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile

from prefkit.engines.chat import Chat, UnsupportedContentError
from prefkit.errors import SourceError
from prefkit.sampling.protocol import Message
from prefkit.shift.protocol import Text, Trained

Turns = tuple[tuple[str, str], ...]


def trained_tokens(chat: Chat, texts: Sequence[Text], max_length: int | None, subject: str) -> list[Trained]:
    """The tokens of each text, in order. Known token ids stand after the tokens of the prompt as they are.

    A prompt that fills `max_length` leaves no token of the completion: TRL drops such a pair. Where a template makes
    prompt and conversation part early, TRL takes the earlier place of chosen and rejected, and this the completion's
    own. Raises SourceError, naming the model as `subject`, when the template refuses a text or the known token ids are
    not those of the completion.
    """
    prompts = _prompt_ids(chat, texts, subject)
    _require_own_tokens(chat, texts, subject)
    tokenised = [text for text in texts if text.token_ids is None]
    whole = _rendered(tokenised, lambda text: chat.conversation_text([*text.prompt, *text.completion]), subject)
    conversations = iter(chat.token_ids(whole))
    rows: list[Trained] = []
    for text in texts:
        prompt = prompts[_turns(text.prompt)]
        if text.token_ids is None:
            conversation = next(conversations)
            start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, conversation, strict=False)))
            prompt, completion = conversation[:start], conversation[start:]
        else:
            completion = list(text.token_ids)
        rows.append(_cut(text.id, prompt, completion, max_length))
    if any(not row.prompt_ids for row in rows):
        raise SourceError(
            f"the chat template of {subject} writes a prompt and its conversation with no common beginning, expected "
            "one that continues the prompt: correct the template"
        )
    return rows


def _cut(key: bytes, prompt: Sequence[int], completion: Sequence[int], max_length: int | None) -> Trained:
    if max_length is None:
        return Trained(key, prompt, completion, cut=0)
    kept = completion[: max(0, max_length - len(prompt))]
    return Trained(key, prompt[:max_length], kept, cut=len(completion) - len(kept))


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


def _require_own_tokens(chat: Chat, texts: Sequence[Text], subject: str) -> None:
    """Sampled tokens must read as the completion, which a stop string may have shortened, in this tokenizer too."""
    sampled = [(text, text.token_ids) for text in texts if text.token_ids is not None]
    foreign = [
        text.id.hex()
        for text, token_ids in sampled
        if not chat.text(token_ids).startswith("".join(message["content"] for message in text.completion))
    ]
    if foreign:
        raise SourceError(
            f"the tokenizer of {subject} reads {len(foreign)} of {len(sampled)} sampled completions as other texts, "
            f"the first is {foreign[0]}: expected the tokenizer they were sampled with; use a reference that has it"
        )


def _turns(messages: Sequence[Message]) -> Turns:
    return tuple((message["role"], message["content"]) for message in messages)
