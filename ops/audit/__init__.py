"""Audit: reads the log itself, beside a running server or without one; never writes, never takes the lock."""
