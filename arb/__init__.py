"""The arbiter: who owns which shard.

To come with the cluster: `core.py`, the pure `step(state, input, now) -> (state, outputs)` over the `cluster`
stream, its driver, the heartbeats and the gRPC face. The embedded server needs none of it: its one node opens
every shard itself, with the same `ShardOpened` events and the same epochs.
"""
