"""The chat page without a browser: its files, and its pure modules under node's test runner."""
