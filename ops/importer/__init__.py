"""Bringing other systems' histories in, through the public interface only."""
