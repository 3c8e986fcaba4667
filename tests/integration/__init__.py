"""Several parts of one process together."""
