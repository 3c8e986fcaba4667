"""The projector of the views' crash test. Not a test.

`view_child URI DATABASE SEED COMMITS`: for each line on stdin, fork a projector that takes what the views miss of the history, in small
batches; stdout gets its process id, a dot for each batch, and its end.
"""

from __future__ import annotations

import os
import random
import signal
import sys

from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.views import READ_MODELS
from projections.words import words_in
from tests.histories import History, missing

BATCH_MAX = 12


def project(uri: str, database: str, history: History, commits: int) -> None:
    """Until the views hold everything; then wait to be killed."""
    shelf = MongoShelf(ViewDatabase.connect(uri, database))
    chance = random.Random()
    projections = [
        model.over(shelf.open(model.schema, 1, "log-1"), parks=False) for model in READ_MODELS.values()
    ]
    behind = True
    while behind:
        behind = False
        for projection in projections:
            batch = missing(history.grow(commits), projection.positions)[: chance.randint(1, BATCH_MAX)]
            if batch:
                behind = True
                projection.take(batch)
                os.write(1, b".\n")
    for projection in projections:
        projection.flush_positions()
    os.write(1, b"done\n")
    signal.pause()


def main() -> None:
    """This process has no threads, so that forking it is sound and costs no imports."""
    uri, database, seed, commits = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    history = History(seed)
    history.grow(commits)
    words_in("今天")  # What it takes to part such words is made here, once.
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                project(uri, database, history, commits)
            finally:
                os._exit(1)
        os.write(1, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
