"""The check of a build: a reference model, its own samples, log-probs, and the stage that measures and drops rows."""
