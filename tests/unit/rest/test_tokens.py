"""Access tokens: what is ours is read, everything else is refused alike."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from domain.errors import Problem
from gateways.tokens import AccessTokens

KEY = b"k" * 64
NOW = 1_800_000_000_000
TOKENS = AccessTokens(KEY)


def _claims(**changes: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": "minutebook",
        "aud": "minutebook",
        "iat": NOW // 1000,
        "exp": NOW // 1000 + 900,
        "sub": "ann",
        "sid": "s_1",
        "ten": "default",
        "typ": "access",
    }
    claims |= changes
    return {name: value for name, value in claims.items() if value is not None}


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_token_is_read_back() -> None:
    token, expires_at = TOKENS.issue("acme", "ann", "s_1", NOW, "import")
    claims = TOKENS.read(token, NOW)
    assert (claims.tenant, claims.user_id, claims.session_id, claims.scope) == (
        "acme",
        "ann",
        "s_1",
        "import",
    )
    assert claims.expires_at == expires_at == NOW + 900_000


def test_it_expires_to_the_second() -> None:
    token, expires_at = TOKENS.issue("default", "ann", "s_1", NOW)
    assert TOKENS.read(token, expires_at - 1).user_id == "ann"
    with pytest.raises(Problem, match="unauthenticated"):
        TOKENS.read(token, expires_at)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        "x" * 5_000,
        f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(_claims())}.",
        jwt.encode(_claims(), b"x" * 32, algorithm="HS256"),
        jwt.encode(_claims(), KEY, algorithm="HS512"),
        jwt.encode(_claims(), KEY, algorithm="HS384"),
        *[
            jwt.encode(_claims(**change), KEY, algorithm="HS256")
            for change in (
                {"exp": NOW // 1000 - 1},
                {"exp": "2100"},
                {"exp": True},
                {"aud": "other"},
                {"iss": "other"},
                {"typ": "refresh"},
                {"sub": ""},
                {"scope": "admin"},
                {"exp": None},
                {"iat": None},
                {"sub": None},
                {"sid": None},
                {"ten": None},
                {"typ": None},
                {"aud": None},
                {"iss": None},
            )
        ],
    ],
)
def test_other_tokens_are_refused(token: str) -> None:
    with pytest.raises(Problem, match="unauthenticated"):
        TOKENS.read(token, NOW)


def test_a_changed_token_is_refused() -> None:
    token, _ = TOKENS.issue("default", "ann", "s_1", NOW)
    head, _, mac = token.split(".")
    with pytest.raises(Problem, match="unauthenticated"):
        TOKENS.read(".".join((head, _part(_claims(sub="bob")), mac)), NOW)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AccessTokens(b"short")
