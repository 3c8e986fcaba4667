"""The write side: command types, handlers, and the shard owner that decides and commits."""
