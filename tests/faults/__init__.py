"""Faults on purpose: a whole cluster of real processes under load, what is done to it, and what must hold afterwards."""
