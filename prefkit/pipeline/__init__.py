"""From a recipe to a version: the plan of every stage, what is missing, and what becomes of each row."""
