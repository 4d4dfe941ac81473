"""Hygiene: detectors of defective prompts, completions and pairs, each of which names an outcome."""
