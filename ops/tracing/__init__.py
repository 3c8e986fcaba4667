"""Traces: where the time of a message goes, from its gateway over its owner and Kafka to the views.

Everything that is traced is wrapped, and without traces nothing is: the message path does not know of them.
docs/decisions/0018-traces-around-the-path.md.
"""
