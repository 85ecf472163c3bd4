"""Tests of `allowed_hosts` and `safe_path`: which custom hosts and paths are accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.safe_path import is_safe_path
from core.types import Refusal
from settings.allowed_hosts import LOOPBACK, check_custom_host, parse_allowed_hosts

# A permissive list that contains none of the refused hosts below.
ALLOWED = parse_allowed_hosts(
    [
        *("llm.example.com", "*.wild.example.com", "ports.example.com:8443"),
        *("*.ports.example.com:8443", "127.0.0.1:8000", "localhost:11434", "[::1]:9000"),
    ]
)

ACCEPTED = {
    "https://llm.example.com": "https://llm.example.com",
    "https://llm.example.com/": "https://llm.example.com",
    "https://llm.example.com:443/v1": "https://llm.example.com/v1",
    "https://LLM.Example.COM/v1/": "https://llm.example.com/v1",
    "https://a.wild.example.com/a/b-c_d.e~f": "https://a.wild.example.com/a/b-c_d.e~f",
    "https://a.b.wild.example.com": "https://a.b.wild.example.com",
    "https://xn--bcher-kva.wild.example.com": "https://xn--bcher-kva.wild.example.com",
    "https://ports.example.com:8443/v1": "https://ports.example.com:8443/v1",
    "https://a.ports.example.com:8443": "https://a.ports.example.com:8443",
    "http://127.0.0.1:8000/v1": "http://127.0.0.1:8000/v1",
    "http://localhost:11434/v1": "http://localhost:11434/v1",
    "https://localhost:11434": "https://localhost:11434",
    "http://[::1]:9000": "http://[::1]:9000",
}

# Refused hosts: with 403 where a host can be parsed, with 400 where not.
REFUSED = {
    # Not on the list, though some are similar to an entry.
    "https://evil.example": 403,
    "https://example.com": 403,
    "https://wild.example.com": 403,
    "https://xwild.example.com": 403,
    "https://llm.example.com.evil.example": 403,
    "https://llm.example.community": 403,
    "https://a.llm.example.com": 403,
    "https://llm.example.com:8443": 403,
    "https://ports.example.com": 403,
    "https://a.wild.example.com:8443": 403,
    "https://*.wild.example.com": 400,
    "https://.wild.example.com": 403,
    "https://a..wild.example.com": 403,
    "https://-.wild.example.com": 403,
    "https://" + "a" * 64 + ".wild.example.com": 403,
    "https://" + "a." * 130 + "wild.example.com": 403,
    # Not encrypted, or not HTTP.
    "http://llm.example.com": 400,
    "HTTPS://llm.example.com": 400,
    "ftp://llm.example.com": 400,
    "file:///etc/passwd": 400,
    "javascript:alert(1)": 400,
    "data:text/plain,x": 400,
    "//llm.example.com": 400,
    "llm.example.com": 400,
    "https:llm.example.com": 400,
    "https:/llm.example.com": 400,
    "https:///llm.example.com": 400,
    "": 400,
    # Loopback addresses in other spellings than the listed ones.
    "http://localhost": 403,
    "http://127.0.0.1": 403,
    "http://127.0.0.1:8001": 403,
    "http://localhost.:11434": 403,
    "http://a.localhost:11434": 403,
    "http://localhost.localdomain": 403,
    "http://127.1:8000": 403,
    "http://127.0.1:8000": 403,
    "http://127.0.0.1.:8000": 403,
    "http://127.0.0.2:8000": 403,
    "http://127.000.000.001:8000": 403,
    "http://2130706433:8000": 403,
    "http://017700000001:8000": 403,
    "http://0177.0.0.1:8000": 403,
    "http://0x7f.1:8000": 403,
    "http://0x7f000001:8000": 403,
    "http://0x7F.0x0.0x0.0x1:8000": 403,
    "http://0:8000": 403,
    "http://0.0.0.0:8000": 403,
    "http://127.0.0.1.wild.example.com:8000": 403,
    "https://wild.example.com.127.1": 403,
    "https://x.wild.example.com.0x7f": 403,
    "http://127%2e0.0.1:8000": 400,
    "http://%31%32%37.0.0.1:8000": 400,
    "http://\uff11\uff12\uff17.0.0.1:8000": 400,
    "http://127\u30020\u30020\u30021:8000": 400,
    "http://\u2460\u2461\u2466.0.0.1:8000": 400,
    "http://loc\u00adalhost:11434": 400,
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:11434": 400,
    "http://[::]:9000": 403,
    "http://[0:0:0:0:0:0:0:1]:9000": 403,
    "http://[::0001]:9000": 403,
    "http://[::1%25eth0]:9000": 400,
    "http://[::ffff:127.0.0.1]:8000": 403,
    "http://[::ffff:7f00:1]:8000": 403,
    "http://[::127.0.0.1]:8000": 403,
    "http://[64:ff9b::127.0.0.1]:8000": 403,
    # Private networks, and services that return cloud credentials.
    "https://10.0.0.1": 403,
    "https://172.16.0.1": 403,
    "https://192.168.0.1": 403,
    "https://100.64.0.1": 403,
    "https://169.254.169.254/latest/meta-data": 403,
    "https://169.254.170.2": 403,
    "https://2852039166": 403,
    "https://0xa9fea9fe": 403,
    "https://0251.0376.0251.0376": 403,
    "https://100.100.100.200": 403,
    "https://224.0.0.1": 403,
    "https://255.255.255.255": 403,
    "https://8.8.8.8": 403,
    "https://[fd00:ec2::254]": 403,
    "https://[fe80::1]": 403,
    "https://[fe80::1%25en0]": 400,
    "https://[ff02::1]": 403,
    "https://[::ffff:169.254.169.254]": 403,
    "https://[2002:7f00:1::]": 403,
    "https://metadata.google.internal": 403,
    "https://metadata": 403,
    "https://instance-data": 403,
    "https://kubernetes.default.svc.cluster.local": 403,
    "https://host.docker.internal": 403,
    "https://1.0.0.127.in-addr.arpa": 403,
    # URLs that two parsers may read differently.
    "https://user@llm.example.com": 400,
    "https://user:pass@llm.example.com": 400,
    "https://llm.example.com@evil.example": 400,
    "https://evil.example#@llm.example.com": 400,
    "https://evil.example?@llm.example.com": 400,
    "https://evil.example\\@llm.example.com": 400,
    "https://llm.example.com\\.evil.example": 400,
    "https:\\\\llm.example.com": 400,
    "https://llm.example.com\t.evil.example": 400,
    "https://llm.exam\nple.com": 400,
    "https://llm.example.com\r\nx-evil: 1": 400,
    "https://llm.example.com\n": 400,
    " https://llm.example.com": 400,
    "https://llm.example.com\x00.evil.example": 400,
    "https://llm.example.com%00.evil.example": 400,
    "https://llm.example.com%2f@evil.example": 400,
    "https://llm.example.com%23@evil.example": 400,
    "https://\uff4cllm.example.com": 400,
    "https://ll\u217f.example.com": 400,
    "https://\u04cflm.example.com": 400,
    "https://llm.example\u3002com": 400,
    "https://llm_.wild.example.com": 400,
    "https://llm.example.com:": 400,
    "https://llm.example.com:0": 400,
    "https://llm.example.com:080": 400,
    "https://llm.example.com:443443": 400,
    "https://llm.example.com:65536": 403,
    "https://llm.example.com:+443": 400,
    "https://llm.example.com:443:443": 400,
    "https://llm.example.com?x=1": 400,
    "https://llm.example.com/v1?x=1": 400,
    "https://llm.example.com/v1#x": 400,
    "https://llm.example.com/..": 400,
    "https://llm.example.com/v1/../x": 400,
    "https://llm.example.com/v1/%2e%2e/x": 400,
    "https://llm.example.com//evil.example": 400,
    "https://llm.example.com/v1//": 400,
    "https://llm.example.com/a b": 400,
    "https://llm.example.com/{resource}": 400,
}


@pytest.mark.parametrize(("text", "base_url"), ACCEPTED.items())
def test_an_allowed_host_is_returned_as_a_base_url(text, base_url):
    assert check_custom_host(text, ALLOWED) == base_url


@pytest.mark.parametrize(("text", "status"), REFUSED.items())
def test_other_hosts_are_refused(text, status):
    refusal = check_custom_host(text, ALLOWED)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


@pytest.mark.parametrize("text", [*ACCEPTED, *REFUSED])
def test_every_host_is_refused_without_a_list(text):
    assert isinstance(check_custom_host(text, frozenset()), Refusal)


@pytest.mark.parametrize("text", REFUSED)
def test_an_unchecked_list_cannot_allow_addresses_that_are_not_public(text):
    """A second check: a list that contains exactly this host still allows only public names."""
    host = text.partition("//")[2].partition("/")[0].lower()
    result = check_custom_host(text, {host, "*.com", "*.example", "*."})
    if isinstance(result, str):
        name = result.split("/")[2].partition(":")[0]
        assert name.endswith((".com", ".community", ".example")) or name in LOOPBACK


@given(
    st.text(alphabet="htps:/[]@#?%\\.-_~ \t\n0129afxlmc\uff10\u3002", max_size=30), st.booleans()
)
def test_any_accepted_url_has_a_host_of_the_list(tail, has_listed_host):
    result = check_custom_host(
        ("https://llm.example.com" if has_listed_host else "https://") + tail, ALLOWED
    )
    if isinstance(result, str):
        assert result == "https://llm.example.com" or result.startswith("https://llm.example.com/")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/files/a%20b",
        "/v1/a%2Fb",
        "/v1/models/ft:gpt-4o:acme::abc",
        "/v1/models/a..b",
        "/v1/models/..a",
        "/v1/models/...",
        "/v1/models/%C3%A9",
        "/v1/models/50%25",
        "/v1/models/",
        "/v1/100%",
    ],
)
def test_a_path_below_the_base_url_is_safe(path):
    assert is_safe_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../x",
        "/v1/./x",
        "/v1/..",
        "/v1/%2e%2e/x",
        "/v1/%2E./x",
        "/v1/..%2fx",
        "/v1/..%2Fx",
        "/v1/a%2f..%2fx",
        "/v1/%252e%252e/x",
        "/v1/%25252e%25252e%25252fx",
        "/v1/..%252fx",
        "/v1/..%5cx",
        "/v1/..\\x",
        "/v1/a\\b",
        "/v1/a%5Cb",
        "/v1/a%255Cb",
        "/v1/..;/x",
        "/v1/..;a=b/x",
        "/v1/%2e%2e%3b/x",
        "/v1//x",
        "/v1//evil.example/x",
        "//v1/x",
        "/v1/x//",
        "/v1/a%00b",
        "/v1/a%0d%0ax:y",
        "/v1/a%0ab",
        "/v1/a%09b",
        "/v1/a%250ab",
        "/v1/a%7fb",
        "/v1/a%c2%85b",
        "/v1/a\nb",
        "/v1/%25252525252525252e",
    ],
)
def test_a_path_that_may_leave_the_base_url_is_not_safe(path):
    assert not is_safe_path(path)
