"""The roles of a cluster as processes: any of them in one process, over the stores that all share.

What a process needs of the others comes to it by two ways only: commands over the owners' streams, and the record over Kafka.
"""
