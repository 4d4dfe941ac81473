"""Noise that belongs to a draw: a function of the completion id, the seed, the step and the token, and of nothing else.

Adding standard Gumbel noise to log-probs and taking the largest samples from them exactly (Gumbel 1954; Maddison et al.
2014, A* sampling). The noise comes from a counter-based generator (Salmon et al. 2011): the 16-byte id, the seed and
the step are hashed to two 32-bit words per row, and these and the token number go through two rounds of MurmurHash3's
32-bit finaliser. There is no generator state, so a row's noise does not depend on its batch mates, on how long they
run, on the device or on the call order.

One step of 64 rows on one core takes 2.3 ms for a vocabulary of 4,000 and 98 ms for 150,000. A `torch.Generator` per
row takes 5.4 and 227 ms; 64-bit integers take 1.2 to 1.7 times as long as 32-bit ones.
"""

from collections.abc import Sequence

import numpy as np
import torch

from prefkit.identity import Words, hash128

# On a CPU, pieces that stay in its cache are four times as fast as the whole at a vocabulary of 150,000.
ELEMENTS_AT_ONCE = 1 << 17


def row_keys(completion_ids: Sequence[bytes], seed: int) -> Words:
    """The key of each draw's noise, shape [rows, 3]."""
    ids = np.frombuffer(b"".join(completion_ids), "<u8").astype(np.uint64).reshape(-1, 2)
    return np.concatenate([ids, np.full((len(ids), 1), seed, np.uint64)], axis=1)


def gumbel_noise(keys: Words, step: int, vocabulary: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Standard Gumbel noise for every row and token at one step, shape [rows, vocabulary], float32.

    `keys` come from `row_keys`. Values lie between -2.9 and 22.2.
    """
    words = hash128(np.concatenate([keys, np.full((len(keys), 1), step, np.uint64)], axis=1))
    seeds = torch.from_numpy((words & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32)).to(device)
    tokens = torch.arange(vocabulary, dtype=torch.int32, device=device)
    rows_at_once = max(1, ELEMENTS_AT_ONCE // vocabulary) if seeds.device.type == "cpu" else len(keys)
    return torch.cat([_gumbel(_hash(part, tokens)) for part in seeds.split(rows_at_once)])


def _hash(seeds: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    words = tokens ^ seeds[:, :1]
    return _mix(_mix(words) ^ seeds[:, 1:])


def _mix(words: torch.Tensor) -> torch.Tensor:
    """MurmurHash3's fmix32, in place; the masks make the shifts of signed integers logical ones."""
    words ^= (words >> 16) & 0xFFFF
    words *= -2048144789  # 0x85EBCA6B
    words ^= (words >> 13) & 0x7FFFF
    words *= -1028477387  # 0xC2B2AE35
    words ^= (words >> 16) & 0xFFFF
    return words


def _gumbel(words: torch.Tensor) -> torch.Tensor:
    # The largest noise decides and comes from the smallest uniforms, where float32 is finest: 31 bits, none of them 0.
    # The upper clamp keeps the noise finite, so that a token that was cut off can never win.
    uniform = (words & 0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()
