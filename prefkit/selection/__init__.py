"""Selection: aggregation of aspects, pair and subset strategies. Numbers in, numbers out; no I/O, no models."""
