"""One module each, in memory."""
