"""Real MongoDB, Kafka and Redis as plain processes, for machines without Docker."""
