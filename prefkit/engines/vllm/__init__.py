"""vLLM, in this process or as a server: draws, log-probs, reward models, and weights that are sent to it."""
