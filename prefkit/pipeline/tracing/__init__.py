"""The story of one row: found by the first digits of its id, put together from facts and versions, told."""
