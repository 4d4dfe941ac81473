"""Training as far as it needs no trainer: runs, the sources of their streams, rows, mixes, and versions from runs."""
