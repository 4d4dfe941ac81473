"""What is wrong with a recipe and its data, told before anything runs.

`examine` reads the recipe, its prompts, the facts there are and the policy's tokenizer; every check is a pure function
from what was examined to findings, and stands in `checkup.CHECKS`. Nothing is written and no model is loaded.
"""
