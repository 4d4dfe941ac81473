"""Import: files become prompts, completions and what was said of them, every record with a named outcome."""
