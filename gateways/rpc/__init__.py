"""Commands between nodes: one long-lived gRPC stream per pair of a face and an owner."""
