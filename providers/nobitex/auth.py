"""Who we are to Nobitex: a token, or an Ed25519 key pair that signs every request (contract: nobitex 3)."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from requests.auth import AuthBase

from providers.errors import AuthFailed
from providers.http import HeaderAuth
from providers.redaction import register_secret

_TOKEN = re.compile(r"[0-9a-fA-F]{40}")
_PRIVATE_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_FORMS = (
    "it is neither a token (40 hexadecimal digits) nor the private key of an API key (44 characters that end in =): "
    "copy it again from the exchange's site"
)


class TokenAuth(HeaderAuth):
    """`Authorization: Token <token>` (contract: nobitex 3.1). A token has all rights of its account."""

    def __init__(self, token: str) -> None:
        super().__init__("Authorization", token, prefix="Token ")


class ApiKeyAuth(AuthBase):
    """Signs each request as it goes on the wire, with the time at which it is made (contract: nobitex 3.2).

    `private_key` is the URL-safe Base64 of the seed, as the exchange shows it once; the public key follows from it.
    Signing needs a wall clock within 30 seconds of the exchange's.
    """

    def __init__(self, private_key: str, *, wall_time: Callable[[], float] = time.time) -> None:
        seed = urlsafe_b64decode(private_key) if _PRIVATE_KEY.fullmatch(private_key) else b""
        if urlsafe_b64encode(seed).decode() != private_key:  # also when the last character carries stray bits
            raise AuthFailed("the Nobitex API key cannot be read: " + _FORMS)
        register_secret(private_key)
        register_secret(private_key.rstrip("="))
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._wall_time = wall_time
        self.public_key = urlsafe_b64encode(self._key.public_key().public_bytes_raw()).decode()

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        timestamp = str(int(self._wall_time()))
        r.headers["Nobitex-Key"] = self.public_key
        r.headers["Nobitex-Timestamp"] = timestamp
        r.headers["Nobitex-Signature"] = self.sign(timestamp, r.method or "GET", r.path_url, _body_bytes(r.body))
        return r

    def __repr__(self) -> str:
        return f"ApiKeyAuth({self.public_key[:6]}…)"

    def sign(self, timestamp: str, method: str, path: str, body: bytes) -> str:
        """URL-safe Base64, with padding, of the signature over the four parts without anything between them."""
        message = f"{timestamp}{method}{path}".encode() + body
        return urlsafe_b64encode(self._key.sign(message)).decode()


def auth_for(secret: str, *, wall_time: Callable[[], float] = time.time) -> AuthBase:
    """Token or API key, told apart by their form. Raises AuthFailed, without repeating it, for what is neither."""
    secret = secret.strip()
    if _TOKEN.fullmatch(secret):
        return TokenAuth(secret)
    if _PRIVATE_KEY.fullmatch(secret):
        return ApiKeyAuth(secret, wall_time=wall_time)
    raise AuthFailed("the Nobitex API key cannot be used: " + _FORMS)


def _body_bytes(body: object) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    raise TypeError("only a body of known bytes can be signed")
