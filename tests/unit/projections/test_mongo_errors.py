"""MongoDB's errors as the views' port tells them."""

from __future__ import annotations

import traceback

import pytest
from pymongo.errors import BulkWriteError

from projections.mongo_errors import DuplicateError, told
from projections.store import BatchTooLargeError, ViewUnavailableError

WORDS = "between us"


@pytest.mark.parametrize(
    "code, kind", [(11000, DuplicateError), (10334, BatchTooLargeError), (17280, ViewUnavailableError)]
)
def test_no_trace_quotes_what_was_written(code: int, kind: type[Exception]) -> None:
    part = {"index": 0, "code": code, "errmsg": f"of {WORDS}", "op": {"wire": WORDS}}
    refused = BulkWriteError({"writeErrors": [part]})
    assert WORDS in str(refused)
    with pytest.raises(kind) as met, told():
        raise refused
    assert WORDS not in "".join(traceback.format_exception(met.value))
