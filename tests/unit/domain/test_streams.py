"""Names of streams."""

from __future__ import annotations

import pytest

from domain.streams import inbox_stream, owner_of, user_stream


@pytest.mark.parametrize("tenant", ["default", "acme"])
@pytest.mark.parametrize("user_id", ["ann", "a.b@c-d_e", "user"])
def test_a_stream_of_a_user_tells_whose_it_is(tenant: str, user_id: str) -> None:
    assert owner_of(user_stream(tenant, user_id)) == (tenant, user_id)
    assert owner_of(inbox_stream(tenant, user_id)) == (tenant, user_id)
