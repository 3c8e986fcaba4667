"""The chat page: data files only, served as they are."""
