"""The record: codec, registry, log port and its adapters, sealing, integrity, secrets."""
