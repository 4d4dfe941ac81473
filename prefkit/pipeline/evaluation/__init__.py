"""The parts of an evaluation: who is compared, on which plan, by which comparisons, and the numbers that come of it."""
