"""Rows of a prompt and its completions: what a token sees, what is predicted from where, and which rows are joined."""

import pytest

torch = pytest.importorskip("torch")

from prefkit.engines.logprobs_packing import Row, attention_mask, batch_of, rows_of  # noqa: E402
from prefkit.shift.protocol import Trained  # noqa: E402

PROMPT = [7, 8]
CPU = torch.device("cpu")


def completion(*tokens: int, prompt: list[int] = PROMPT) -> Trained:
    return Trained(bytes(tokens[:2]), prompt, tokens, cut=0)


def joined(*lengths: int, prompt: int, hidden_size: int) -> list[list[int]]:
    """The lengths of the completions in each row."""
    group = [Trained(bytes([i]), [1] * prompt, [2] * length, cut=0) for i, length in enumerate(lengths)]
    return [[c.tokens for c in row.completions] for row in rows_of(group, hidden_size, share=True)]


def test_tokens_see_the_prompt_and_their_own_completion_only():
    batch = batch_of([Row(PROMPT, [completion(1, 2), completion(3, 4, 5)]), Row([9], [completion(6)])], CPU)
    assert batch.tokens.tolist() == [[7, 8, 1, 3, 4], [9, 0, 0, 0, 0]]
    assert batch.positions.tolist()[0] == [0, 1, 2, 2, 3]
    seen = (attention_mask(batch, torch.float32)[0, 0] == 0).int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]


def test_first_token_of_each_completion_is_predicted_from_the_end_of_the_prompt():
    batch = batch_of([Row(PROMPT, [completion(1, 2), completion(3, 4, 5)]), Row([9], [completion(6)])], CPU)
    assert list(zip(batch.sources.tolist(), batch.targets.tolist(), strict=True)) == [
        (1, 1), (2, 2), (1, 3), (3, 4), (4, 5), (5, 6),
    ]  # fmt: skip


def test_padding_is_masked_where_no_row_shares_a_prompt():
    batch = batch_of([Row(PROMPT, [completion(1, 2, 3)]), Row([9], [completion(6)])], CPU)
    assert attention_mask(batch, torch.float32).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_completion_joins_a_row_while_that_costs_less_than_the_prompt_again():
    # Hidden size 1, a prompt of 4 and a row of 4 + 2 read tokens. Two more tokens: 4 (6 + 4 + 4) = 56 > 2 * 6 * 2 = 24.
    assert joined(3, 3, prompt=4, hidden_size=1) == [[3, 3]]
    # Twenty more: 4 (6 + 4 + 40) = 200 < 2 * 6 * 20 = 240.
    assert joined(3, 21, prompt=4, hidden_size=1) == [[21], [3]]
    # A wider model pays more for a token and as much for attention: 4 (12 + 4 + 40) = 224, 4 (18 + 4 + 40) = 248.
    assert joined(3, 21, prompt=4, hidden_size=2) == [[21], [3]]
    assert joined(3, 21, prompt=4, hidden_size=3) == [[3, 21]]


def test_row_of_several_completions_stays_short_enough_for_its_mask():
    # 100 + 39 * 100 = 4000 tokens, and another hundred would be more than 4096.
    assert [len(row) for row in joined(*[101] * 80, prompt=100, hidden_size=10_000)] == [39, 39, 2]
    assert joined(5000, prompt=100, hidden_size=10_000) == [[5000]]


def test_rows_hold_completions_of_one_prompt_the_longest_row_first():
    given = [completion(1, 2), completion(*range(10), prompt=[5]), completion(3, 4, 5)]
    rows = rows_of(given, hidden_size=64, share=True)
    assert [(list(row.prompt), row.length, len(row.completions)) for row in rows] == [([5], 10, 1), (PROMPT, 5, 2)]
    assert [row.length for row in rows_of(given, hidden_size=64, share=False)] == [10, 4, 3]
