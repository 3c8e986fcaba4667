"""A log moved from a data folder to a cluster, or back."""
