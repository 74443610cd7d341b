"""Access tokens: what is signed by us, for us, with the one algorithm, and has not expired. Nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.access.sessions import Claims
from everlearn.adapters.tokens import Hs256, kid_of
from everlearn.errors import InvalidError

OLD, NEW = "the-old-secret-of-32-characters-or-more", "the-new-secret-of-32-characters-or-more"
NOW = 1_700_000_000.0
CLAIMS = Claims("ann", "s" * 64, NOW + 900)
HEADER = {"alg": "HS256", "typ": "at+jwt", "kid": kid_of(OLD)}
BODY = {
    "iss": "everlearn", "aud": "everlearn", "sub": "ann", "sid": "s" * 64,
    "iat": int(NOW), "exp": int(NOW) + 900,
}  # fmt: skip


def part(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def forged(
    header: dict[str, Any], body: dict[str, Any], secret: bytes = OLD.encode(), hash_: str = "sha256"
) -> str:
    """A token made by hand, with whatever header, signed with HMAC."""
    signed = part(header) + b"." + part(body)
    signature = base64.urlsafe_b64encode(hmac.new(secret, signed, hash_).digest()).rstrip(b"=")
    return (signed + b"." + signature).decode()


@pytest.fixture
def signer() -> Hs256:
    return Hs256([OLD])


def test_a_token_says_what_was_signed(signer: Hs256) -> None:
    token = signer.sign(CLAIMS, NOW)
    assert signer.verify(token, NOW) == CLAIMS
    assert jwt.get_unverified_header(token) == HEADER


def test_the_forger_can_make_a_good_one(signer: Hs256) -> None:
    """So what is refused below is refused for the one thing that is wrong with it."""
    assert signer.verify(forged(HEADER, BODY), NOW) == CLAIMS


@pytest.mark.parametrize("none", ["none", "None", "NONE", "nOnE", ""])
def test_no_algorithm_is_no_algorithm(signer: Hs256, none: str) -> None:
    unsigned = (part({**HEADER, "alg": none}) + b"." + part(BODY) + b".").decode()
    assert signer.verify(unsigned, NOW) is None
    assert signer.verify(forged({**HEADER, "alg": none}, BODY), NOW) is None


@pytest.mark.parametrize(("algorithm", "hash_"), [("HS384", "sha384"), ("HS512", "sha512")])
def test_another_algorithm_with_our_secret_is_refused(signer: Hs256, algorithm: str, hash_: str) -> None:
    assert signer.verify(forged({**HEADER, "alg": algorithm}, BODY, hash_=hash_), NOW) is None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "PS256", "EdDSA"])
def test_key_confusion_is_refused(signer: Hs256, algorithm: str) -> None:
    """A token that claims an asymmetric algorithm, signed by HMAC with what a public key would be."""
    assert signer.verify(forged({**HEADER, "alg": algorithm}, BODY), NOW) is None
    public = b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ\n-----END PUBLIC KEY-----\n"
    assert signer.verify(forged(HEADER, BODY, secret=public), NOW) is None


@pytest.mark.parametrize(
    "header",
    [
        {"kid": None}, {"kid": "unknown"}, {"kid": kid_of(NEW)}, {"kid": ["a"]}, {"kid": ""},
        {"kid": "../../dev/null"}, {"kid": "' OR 1=1 --"}, {"typ": "JWT"}, {"typ": None},
        {"jwk": {"kty": "oct", "k": "AAAA"}, "kid": "x"}, {"jku": "http://127.0.0.1/keys", "kid": "x"},
    ],
)  # fmt: skip
def test_a_wrong_kid_or_kind_is_refused(signer: Hs256, header: dict[str, Any]) -> None:
    assert signer.verify(forged({**HEADER, **header}, BODY), NOW) is None


def test_a_header_without_kid_is_refused(signer: Hs256) -> None:
    assert signer.verify(forged({"alg": "HS256", "typ": "at+jwt"}, BODY), NOW) is None


@pytest.mark.parametrize("missing", sorted(BODY))
def test_every_claim_is_needed(signer: Hs256, missing: str) -> None:
    body = {name: value for name, value in BODY.items() if name != missing}
    assert signer.verify(forged(HEADER, body), NOW) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "another"}, {"aud": "another"}, {"sub": 7}, {"sid": None}, {"exp": int(NOW)},
        {"exp": int(NOW) - 1}, {"exp": "never"}, {"exp": 1e400}, {"exp": True}, {"nbf": 99_999_999_999},
    ],
)  # fmt: skip
def test_a_wrong_claim_is_refused(signer: Hs256, changes: dict[str, Any]) -> None:
    assert signer.verify(forged(HEADER, {**BODY, **changes}), NOW) is None


def test_it_expires_by_the_given_time(signer: Hs256) -> None:
    token = signer.sign(CLAIMS, NOW)
    assert signer.verify(token, NOW + 899.9) == CLAIMS
    assert signer.verify(token, NOW + 900) is None


def test_secrets_turn_over() -> None:
    before, during, after = Hs256([OLD]), Hs256([NEW, OLD]), Hs256([NEW])
    old, new = before.sign(CLAIMS, NOW), during.sign(CLAIMS, NOW)
    assert [signer.verify(old, NOW) == CLAIMS for signer in (before, during, after)] == [True, True, False]
    assert [signer.verify(new, NOW) == CLAIMS for signer in (before, during, after)] == [False, True, True]


@pytest.mark.parametrize("secrets", [[], ["short"], [OLD, "short"]])
def test_a_secret_shorter_than_the_hash_is_refused(secrets: list[str]) -> None:
    with pytest.raises(InvalidError, match="32"):
        Hs256(secrets)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    signer = Hs256([OLD])
    token = bytearray(signer.sign(CLAIMS, NOW).encode())
    place %= len(token)
    if place == len(token) - 1:  # two of the bits of the last character are not part of the signature
        place -= 1
    token[place] ^= change
    assert signer.verify(token.decode("latin-1"), NOW) is None


@given(st.text(max_size=200) | st.builds(".".join, st.lists(st.text("aA0-_=. ", max_size=20), min_size=3)))
def test_no_text_breaks_the_parser(text: str) -> None:
    assert Hs256([OLD]).verify(text, NOW) is None


@pytest.mark.parametrize("make", [lambda: "." * 5000, lambda: "a." * 3000, lambda: "e30." * 3 + "A" * 10**6])
def test_huge_tokens_are_not_parsed(signer: Hs256, make: Callable[[], str]) -> None:
    assert signer.verify(make(), NOW) is None


def test_the_name_of_a_secret_tells_nothing_of_it() -> None:
    assert kid_of(OLD) not in hashlib.sha256(OLD.encode()).hexdigest()
