"""Names whose values are taken for credentials."""

import re

# Members that hold a secret, in a text that is the beginning of some JSON.
SECRET_MEMBER_NAMES = (
    *("api_key", "apiKey", "api-key", "authorization", "Authorization", "password", "secret"),
    *("access_token", "auth_token", "authorization_token", "private_key", "client_secret"),
)

_SECRET_NAME = re.compile("auth|key|token|secret|password|credential|cookie|signature")


def is_secret_name(name: str) -> bool:
    """Whether what bears this name, in lower case, is taken for a credential."""
    return _SECRET_NAME.search(name) is not None
