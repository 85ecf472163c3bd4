"""Names whose values are taken for credentials."""

import re

# Names of JSON members whose value is a secret. They are also searched for in texts that cannot be
# parsed, such as the beginning of a JSON value.
SECRET_MEMBER_NAMES = (
    *("api_key", "apiKey", "api-key", "authorization", "Authorization", "password", "secret"),
    *("access_token", "auth_token", "authorization_token", "private_key", "client_secret"),
)

_SECRET_NAME = re.compile("auth|key|token|secret|password|credential|cookie|signature")


def is_secret_name(name: str) -> bool:
    """Whether the value of a header, query parameter or JSON member is taken for a credential,
    because its name contains a word such as "key" or "token". `name` must be in lower case."""
    return _SECRET_NAME.search(name) is not None
