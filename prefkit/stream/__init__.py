"""The preference stream: rows for a trainer, drawn as it learns, read from a version, or replayed from a recording."""
