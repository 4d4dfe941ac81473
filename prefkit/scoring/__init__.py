"""Labels: what scorers are, and the ones that need no model."""
