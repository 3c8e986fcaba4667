"""Faces to the world: they translate, nothing more."""
