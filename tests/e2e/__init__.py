"""A whole server over the real wire."""
