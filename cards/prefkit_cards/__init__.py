"""Dataset cards, figures, reports and publishing of versions."""
