"""Follow the event log of a Minutebook cluster on Kafka, with nothing of Minutebook's: `pip install aiokafka`.

python follow_kafka.py kafka:9092 minutebook.main.commits my-program
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def follow(bootstrap: str, topic: str, group: str) -> None:
    """Print every event once: type, stream and version, shard and position."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    last: dict[int, int] = {}  # Keep it in your own store, in the same write as what you make of the events.
    async with consumer:
        while True:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    frame = json.loads(record.value)
                    shard, position = frame["shard"], frame["position"]
                    if position <= last.get(shard, 0):
                        continue  # It came before. Above last + 1 one is missing: read the topic from its beginning.
                    for version, event in enumerate(frame["events"], frame["first_version"]):
                        print(f"{event['type']} {frame['stream']} v{version} {shard}:{position}", flush=True)
                    last[shard] = position
                await consumer.commit()


if __name__ == "__main__":
    asyncio.run(follow(*sys.argv[1:4]))
