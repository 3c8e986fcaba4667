"""What a process tells Prometheus: one module per part of it. Plain counters of their owners are read when somebody asks, so that counting
costs nothing more. The list stands in docs/operations.md, and a test compares it with what a real process tells.
"""
