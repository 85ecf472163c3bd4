import pytest

from providers import BASE_URLS, forwarded_headers, plan
from vocabulary import Call, Refusal, UpstreamCall


def planned(path="/v1/chat/completions", query="", headers=None, default="openai", urls=None):
    return plan(Call("POST", path, query, headers or {}), default, urls or {})


@pytest.mark.parametrize(
    ("path", "query", "headers", "url"),
    [
        ("/v1/chat/completions", "", {}, "https://api.openai.com/v1/chat/completions"),
        ("/v1/messages", "beta=true", {}, "https://api.anthropic.com/v1/messages?beta=true"),
        ("/v1/messages/batches/b1", "", {}, "https://api.anthropic.com/v1/messages/batches/b1"),
        ("/v1/messagesx", "", {}, "https://api.openai.com/v1/messagesx"),
        ("/v1/models", "a=1&a=2", {}, "https://api.openai.com/v1/models?a=1&a=2"),
        ("/v1/a%2Fb", "", {}, "https://api.openai.com/v1/a%2Fb"),
        ("/v1//evil.example/x", "", {}, "https://api.openai.com/v1//evil.example/x"),
        (
            "/v1/chat/completions",
            "",
            {"x-portkey-provider": "Groq"},
            "https://api.groq.com/openai/v1/chat/completions",
        ),
        (
            "/v1/messages",
            "",
            {"x-portkey-provider": "@openrouter"},
            "https://openrouter.ai/api/v1/messages",
        ),
    ],
)
def test_where_a_call_goes(path, query, headers, url):
    upstream = planned(path, query, headers)
    assert isinstance(upstream, UpstreamCall)
    assert upstream.url == url


def test_an_unknown_provider_names_the_known_ones():
    refusal = planned(headers={"x-portkey-provider": "nowhere"})
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400
    assert all(slug in refusal.message for slug in BASE_URLS)


def test_the_table_can_be_replaced_and_extended():
    urls = {"openai": "https://proxy.example/v1", "mine": "https://mine.example"}
    upstream = planned(urls=urls)
    assert isinstance(upstream, UpstreamCall)
    assert upstream.url.startswith("https://proxy.example/v1/")
    upstream = planned(headers={"x-portkey-provider": "mine"}, urls=urls)
    assert isinstance(upstream, UpstreamCall)
    assert upstream.url == "https://mine.example/chat/completions"


def test_base_urls_are_plain_https():
    for url in BASE_URLS.values():
        assert url.startswith("https://")
        assert not url.endswith("/")


def test_a_gateway_key_is_never_forwarded_whatever_the_header():
    headers = {"authorization": "Bearer gw_1", "x-anything": "gw_2", "x-else": "keep"}
    headers |= {"x-basic": "Basic gw_3", "x-token": "Token  gw_4"}
    assert dict(forwarded_headers(headers)) == {"x-else": "keep", "accept-encoding": "identity"}
