"""Rows of tokens for scoring: a prompt once, and after it each of its completions.

A completion sees its prompt and itself, never its siblings, and its positions count on from the prompt. So a prompt
that several completions share costs its matrix products once, in one forward pass without a cache. What it costs is
attention: a row's is quadratic in its length, masked or not. A completion joins a row while that costs less than
reading the prompt again. Its last token is not read at all, since nothing is predicted from it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prefkit.shift.protocol import Trained

PADDING = -1
LONGEST_SHARED = 4096
"""Most tokens in a row of several completions: its mask is as large as the square of its length."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and completions of it; each has at least one token, and so has the prompt."""

    prompt: Sequence[int]
    completions: Sequence[Trained]

    @property
    def length(self) -> int:
        """How many tokens are read."""
        return len(self.prompt) + sum(c.tokens - 1 for c in self.completions)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors, padded on the right. N is the number of completion tokens, in the order of rows and of each."""

    tokens: torch.Tensor
    """Shape [rows, length]."""
    positions: torch.Tensor
    """Shape [rows, length]."""
    parts: torch.Tensor
    """Shape [rows, length]: 0 in the prompt, 1 and so on in a completion, -1 where there is nothing."""
    sources: torch.Tensor
    """Shape [N]: the place in the flattened rows from which a token is predicted."""
    targets: torch.Tensor
    """Shape [N]: the tokens."""
    shared: bool
    """Whether a row has several completions."""


def rows_of(trained: Sequence[Trained], hidden_size: int, share: bool) -> list[Row]:
    """Every completion in one row, the longest row first; rows of one completion each unless `share`."""
    groups: defaultdict[tuple[int, ...], list[Trained]] = defaultdict(list)
    for row in trained:
        groups[tuple(row.prompt_ids)].append(row)
    rows: list[Row] = []
    for prompt, group in groups.items():
        packs: list[list[Trained]] = []
        for completion in sorted(group, key=lambda row: (row.tokens, row.id)):
            if share and packs and _joining_pays(Row(prompt, packs[-1]), completion, hidden_size):
                packs[-1].append(completion)
            else:
                packs.append([completion])
        rows.extend(Row(prompt, pack) for pack in packs)
    return sorted(rows, key=lambda row: (-row.length, row.completions[0].id))


def _joining_pays(row: Row, completion: Trained, hidden_size: int) -> bool:
    """Whether the completion costs less after this row than in one of its own.

    Per layer a token costs 24 h^2 operations in matrix products (h is the hidden size, the feed-forward layers taken
    as 4 h wide) and 4 h per token it is compared with. In units of 4 h, a row of n tokens costs 6 h n + n^2.
    """
    prompt, length, new = len(row.prompt), row.length, completion.tokens - 1
    if length + new > LONGEST_SHARED:
        return False
    return prompt * (6 * hidden_size + prompt + 2 * new) > 2 * length * new


def batch_of(rows: Sequence[Row], device: torch.device) -> Batch:
    """Rows as tensors on a device."""
    longest = max(row.length for row in rows)
    tokens: list[list[int]] = []
    positions: list[list[int]] = []
    parts: list[list[int]] = []
    sources: list[int] = []
    targets: list[int] = []
    for place, row in enumerate(rows):
        start = len(row.prompt)
        tokens.append(list(row.prompt))
        positions.append(list(range(start)))
        parts.append([0] * start)
        for part, completion in enumerate(row.completions, 1):
            read = completion.completion_ids[:-1]
            before = place * longest + len(tokens[-1])
            sources.extend((place * longest + start - 1, *range(before, before + len(read))))
            targets.extend(completion.completion_ids)
            tokens[-1].extend(read)
            positions[-1].extend(range(start, start + len(read)))
            parts[-1].extend([part] * len(read))
        for values, filling in ((tokens[-1], 0), (positions[-1], 0), (parts[-1], PADDING)):
            values.extend([filling] * (longest - row.length))
    tensors = [torch.tensor(values, device=device) for values in (tokens, positions, parts, sources, targets)]
    return Batch(*tensors, shared=any(len(row.completions) > 1 for row in rows))


def attention_mask(batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """What a token may see: for rows of one completion 1 where there is a token, shape [rows, length].

    For shared prompts what is added to the attention scores, shape [rows, 1, length, length].
    """
    if not batch.shared:
        return (batch.parts != PADDING).long()
    place = torch.arange(batch.parts.shape[1], device=batch.parts.device)
    own = batch.parts[:, None, :] == batch.parts[:, :, None]
    seen = (place[None, :] <= place[:, None]) & (own | (batch.parts[:, None, :] == 0))
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
