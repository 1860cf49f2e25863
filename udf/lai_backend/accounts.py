"""The one account of a laptop back-end: its password, and the tokens it is exchanged for.

Every user can run Python on this machine, so there always is a password: the operator's, or
one that is drawn and kept in `password` in the data folder, readable by its owner only. Tokens are
signed and expire; the tokens of openeo-driver itself are only the user's name in base64.
"""

import hmac
import os
import secrets
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from lai_backend.errors import SettingsError

TOKEN_LIFETIME_S = 7 * 24 * 3600
SECRET_BYTES = 24


class Account:
    """Checks a password and makes tokens."""

    def __init__(self, user: str, password: str, secret: str) -> None:
        """Build an account; a new secret makes old tokens worthless."""
        self.user = user
        self._password = password
        self._tokens = URLSafeTimedSerializer(secret, salt=password)

    def accepts(self, user: str, password: str) -> bool:
        """Return whether name and password are right."""
        same_user = hmac.compare_digest(user.encode(), self.user.encode())
        return hmac.compare_digest(password.encode(), self._password.encode()) and same_user

    def make_token(self, user: str) -> str:
        """Return a signed token for a user who gave the password."""
        return str(self._tokens.dumps(user))

    def user_of(self, token: str) -> str | None:
        """Return the user of a token, None if it is forged or expired."""
        try:
            return str(self._tokens.loads(token, max_age=TOKEN_LIFETIME_S))
        except BadSignature:
            return None


def read_secret(path: Path) -> str:
    """Return the secret in a file; a new one is drawn if there is none."""
    try:
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(SECRET_BYTES))
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"Cannot keep a secret in {path}: {error}.") from error
