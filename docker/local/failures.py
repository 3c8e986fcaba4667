"""What goes wrong here, in words for whoever started it."""

from __future__ import annotations


class ServicesError(Exception):
    """A server cannot be had or does not run; the text says why and what to do."""
