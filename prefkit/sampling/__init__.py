"""Prompts in, completions out: what a sampler is, which there are, and whose weights they sample from."""
