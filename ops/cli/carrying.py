"""`minutebook audit compare`, `minutebook repair kafka`, and the part of `restore` that reads from Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failing import NO, tell
from ops.cli.options import Config, Data, Json, run, settings_of
from ops.cli.output import Step, emit, facts, progress, safe, say

if TYPE_CHECKING:
    from eventlog.kafka_driver import KafkaSettings
    from ops.audit.comparing import Compared, Difference
    from ops.carrying import Where
    from ops.from_kafka import Refilled, RestoredLog

repair_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Mend what is derived from the log; it never changes the log.",
)

MongoDB = Annotated[
    str | None,
    typer.Option("--mongodb", metavar="URI", help="The log of a cluster; its path names the database."),
]
Kafka = Annotated[str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Kafka, to begin with.")]
ClusterId = Annotated[
    str | None, typer.Option("--cluster-id", metavar="NAME", help="Whose topic; it carries this name.")
]


def compare_command(
    data: Data = None,
    mongodb: MongoDB = None,
    kafka: Kafka = None,
    cluster_id: ClusterId = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Compare the log with Kafka, position by position.

    \b
    minutebook audit compare --mongodb mongodb://db/minutebook --kafka kafka:9092
    minutebook audit compare --data data --kafka localhost:9092 --cluster-id main --json

    Names what is missing in Kafka, what is too much there, and where another frame stands; the first hundred of a kind.
    While a server runs, what its relay has not sent yet is missing. Exit 1 if they differ: `minutebook repair kafka` sends
    what is missing.
    """
    settings = settings_of(config)
    from ops.carrying import kafka_of, where_of

    where, reached = where_of(settings, data, mongodb), kafka_of(settings, kafka)
    with progress("comparing") as step:
        summary = run(_compare(where, reached, cluster_id or settings.cluster.cluster_id, step, json))
    if json:
        emit({"same": summary.same, **_fields(summary)})
    else:
        facts(_compared(summary))
    if not summary.same:
        tell("minutebook: Kafka does not hold what the log holds; see `minutebook repair kafka`")
        raise typer.Exit(NO)


async def _compare(where: Where, kafka: KafkaSettings, cluster_id: str, step: Step, json: bool) -> Compared:
    from ops.audit.comparing import Comparison
    from ops.carrying import open_log, open_topic

    async with open_log(where) as log, open_topic(kafka, cluster_id, log.shard_count) as topic:
        comparison = Comparison(log, topic, topic.partitions, step, log.former_log_ids)
        async for difference in comparison.differences():
            if json:
                emit(difference)
            else:
                say(_line(difference))
        return comparison.summary


def _line(difference: Difference) -> str:
    if difference.shard is None:
        place = f"partition {difference.partition}"
    else:
        last = difference.last_position
        one = last is None or last == difference.position
        run_of = f"position {difference.position}" if one else f"positions {difference.position}-{last}"
        place = f"shard {difference.shard}, {run_of}"
    offset = "" if difference.offset is None else f" (offset {difference.offset})"
    return f"{difference.kind.upper():<8} {place}{offset}: {safe(difference.detail)}"


def _compared(summary: Compared) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("log", f"{summary.log_id}, {summary.positions:,} commits"),
        ("kafka", f"{summary.records:,} records, {summary.repeated:,} of them repeated"),
        ("held", f"{summary.held:,} commits"),
    ]
    names = ("missing", "surplus", "other", "stray", "forged", "left")
    rows += [(name, f"{getattr(summary, name):,}") for name in names if getattr(summary, name)]
    return [*rows, ("result", "the same" if summary.same else "different")]


@repair_app.command("kafka")
def repair_command(
    data: Data = None,
    mongodb: MongoDB = None,
    kafka: Kafka = None,
    cluster_id: ClusterId = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Send to Kafka what it lacks of the log; the topic is made if it is not there.

    \b
    minutebook repair kafka --mongodb mongodb://db/minutebook --kafka kafka:9092
    minutebook repair kafka --data data --kafka localhost:9092 --json

    It may be repeated, also while the servers run: readers drop what they have. What stands in Kafka and not in the log
    cannot be taken out of it, and no reader applies it.
    """
    settings = settings_of(config)
    from ops.carrying import kafka_of, where_of

    where, reached = where_of(settings, data, mongodb), kafka_of(settings, kafka)
    name, partitions = cluster_id or settings.cluster.cluster_id, settings.cluster.kafka_partitions
    with progress("repairing") as step:
        done = run(_repair(where, reached, name, partitions, step))
    if json:
        emit(done)
    else:
        facts([("sent", f"{done.commits:,} commits of {done.shards} shards")])


async def _repair(
    where: Where, kafka: KafkaSettings, cluster_id: str, partitions: int | None, step: Step
) -> Refilled:
    from ops.audit.comparing import Comparison
    from ops.carrying import open_log, open_sender, open_topic
    from ops.from_kafka import refill

    async with (
        open_log(where) as log,
        open_sender(kafka, cluster_id, log.shard_count, partitions) as sender,
        open_topic(kafka, cluster_id, log.shard_count) as topic,
    ):
        comparison = Comparison(log, topic, topic.partitions, former_log_ids=log.former_log_ids)
        async for _ in comparison.differences():
            pass
        return await refill(log, sender, comparison.missing, step)


def restore_from_kafka(
    kafka: str,
    data: Path | None,
    mongodb: str | None,
    cluster_id: str | None,
    config: Path | None,
    json: bool,
) -> None:
    """A new log from what Kafka holds, told on stdout."""
    settings = settings_of(config)
    from ops.carrying import kafka_of, restore_log, where_of

    where, reached = where_of(settings, data, mongodb), kafka_of(settings, kafka)
    with progress("restoring") as step:
        name = cluster_id or settings.cluster.cluster_id
        restored = run(restore_log(reached, name, settings.shards, where, step))
    if json:
        emit(restored)
    else:
        facts(_restored(restored))
    tell(
        "Secrets are not in Kafka: restore them from their own backup, or nobody can log in with a password of before."
    )


def _restored(restored: RestoredLog) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("log", f"{restored.log_id} (was {', '.join(restored.former_log_ids) or 'empty'})"),
        ("restored", f"{restored.commits:,} commits, {restored.events:,} events"),
    ]
    names = ("left", "forged")
    return rows + [
        (name, f"{getattr(restored, name):,} records") for name in names if getattr(restored, name)
    ]


def _fields(struct: object) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(struct)  # type: ignore[arg-type]
