"""Human annotation of preference data: push rows out, pull judgments back, measure agreement."""
