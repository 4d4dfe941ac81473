import numpy as np
import pytest

from prefkit.errors import SourceError
from prefkit.shift.distances import auc
from prefkit.shift.support import Tokens, own_range, surprises
from tests.shift.builders import Reference


def test_range_is_the_conformal_quantile_of_both_ends() -> None:
    # 199 values: the ceil(200 x 0.99) = 198th smallest is 198, and the 198th largest is 2
    found = own_range(np.arange(1.0, 200.0))
    assert (found.lower, found.upper) == (2.0, 198.0)
    assert found.off_support(np.array([198.0, 198.5])).tolist() == [False, True]
    assert found.too_likely(np.array([2.0, 1.5])).tolist() == [False, True]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("between", "within"), [(0.0, 0.0), (0.15, 0.08), (0.4, 0.15)])
def test_one_percent_of_the_references_own_held_out_samples_is_off_support(
    between: float, within: float, seed: int
) -> None:
    reference = Reference.of(2000, seed, between=between, within=within)
    held_out = reference.draw(3, seed + 100)
    found = surprises(held_out, reference.draw(4, seed + 200), seed=seed)
    assert found.own_range.off_support(found.rows).mean() == pytest.approx(0.01, abs=0.005)
    assert found.own_range.too_likely(found.rows).mean() == pytest.approx(0.01, abs=0.005)


def test_short_and_long_completions_are_off_support_alike() -> None:
    shares: list[tuple[float, float]] = []
    for seed in range(5):
        reference = Reference.of(1500, seed)
        held_out = reference.draw(4, seed + 100)
        found = surprises(held_out, reference.draw(4, seed + 200), seed=seed)
        off, (low, high) = found.own_range.off_support(found.rows), np.quantile(held_out.tokens, [1 / 3, 2 / 3])
        shares.append((off[held_out.tokens <= low].mean(), off[held_out.tokens >= high].mean()))
    short, long = np.mean(shares, axis=0)
    assert (short, long) == (pytest.approx(0.01, abs=0.004), pytest.approx(0.01, abs=0.004))


def test_unlikelier_text_is_off_support_far_more_often() -> None:
    reference = Reference.of(500, 0)
    found = surprises(reference.draw(1, 1, unlikelier=1.5), reference.draw(4, 2))
    assert found.own_range.off_support(found.rows).mean() > 0.3


def test_surprise_tells_other_policies_better_than_nll_does_where_prompts_differ() -> None:
    reference = Reference.of(1000, 0, between=0.4)
    other, samples = reference.draw(1, 1, unlikelier=1.15), reference.draw(4, 2)
    found = surprises(other, samples)
    assert auc(found.rows, found.samples) > auc(other.nll, samples.nll) + 0.05


def test_repeated_text_is_too_likely_and_on_support() -> None:
    reference = Reference.of(500, 0)
    found = surprises(reference.draw(1, 1, unlikelier=0.2), reference.draw(4, 2))
    assert found.own_range.too_likely(found.rows).mean() > 0.9
    assert not found.own_range.off_support(found.rows).any()


def test_order_of_rows_and_samples_changes_nothing() -> None:
    reference = Reference.of(60, 0)
    rows, samples = reference.draw(2, 1), reference.draw(4, 2)
    mixed, remixed = np.random.default_rng(0).permutation(120), np.random.default_rng(1).permutation(240)
    plain = surprises(rows, samples)
    other = surprises(rearranged(rows, mixed), rearranged(samples, remixed))
    assert other.rows == pytest.approx(plain.rows[mixed])
    assert other.own_range.upper == pytest.approx(plain.own_range.upper)


def test_no_prompt_is_judged_by_the_fit_of_its_own_half() -> None:
    # A prompt's samples move the judgement of prompts in the other half: two that one prompt moves are in one half,
    # so they do not move each other.
    reference = Reference.of(60, 0)
    rows, samples = reference.draw(1, 1), reference.draw(4, 2)
    moved_by_first = moved(rows, samples, 0)
    assert 20 <= len(moved_by_first) <= 40
    one = moved_by_first[0]
    assert not set(moved_by_first) & set(moved(rows, samples, one))


def test_rows_of_prompts_without_samples_are_judged_by_length_alone() -> None:
    reference = Reference.of(1000, 0, between=0.3)
    known, all_rows = reference.draw(4, 1), reference.draw(4, 2)
    found = surprises(all_rows, known.where(known.prompts < 800))
    share = found.own_range.off_support(found.rows)[all_rows.prompts >= 800].mean()
    assert 0.001 < share < 0.03


def test_answers_of_one_token_each_have_a_range() -> None:
    # A reference that says one of two words, with probability 0.9 and 0.1, and never a third.
    generator, prompts = np.random.default_rng(0), np.repeat(np.arange(100), 4)
    nll = np.where(generator.random(400) < 0.9, -np.log(0.9), -np.log(0.1))
    third = Tokens(np.full(100, 12.0), np.ones(100, np.int64), np.arange(100))
    found = surprises(third, Tokens(nll, np.ones(400, np.int64), prompts))
    assert found.own_range.off_support(found.rows).all()


def test_too_few_samples_are_refused_with_how_many_are_needed() -> None:
    reference = Reference.of(20, 0)
    with pytest.raises(SourceError, match="80 samples of 20 prompts, expected 99 of 2 at least"):
        surprises(reference.draw(1, 1), reference.draw(4, 2))


def moved(rows: Tokens, samples: Tokens, prompt: int) -> list[int]:
    """Other prompts whose rows are judged differently when this prompt's samples are twice as unlikely."""
    twice = Tokens(np.where(samples.prompts == prompt, 2, 1) * samples.nll, samples.tokens, samples.prompts)
    changed = surprises(rows, samples).rows != surprises(rows, twice).rows
    return [int(other) for other in np.unique(rows.prompts[changed]) if other != prompt]


def rearranged(of: Tokens, order: np.ndarray) -> Tokens:
    return Tokens(of.nll[order], of.tokens[order], of.prompts[order])
