"""Import: files of prompts become tasks, every row with a named outcome."""
