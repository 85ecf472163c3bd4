"""Tests of `conditions`: which queries match which values, and which are invalid."""

import pytest

from settings.conditions import check_query, query_matches

VALUES = {
    "metadata": {"plan": "paid", "seats": "12", "beta": "true"},
    "params": {"model": "gpt-4o", "max_tokens": 500, "stream": True, "a": {"b": 1}},
    "url": {"pathname": "/v1/chat/completions"},
}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"metadata.plan": {"$eq": "paid"}}, True),
        ({"metadata.plan": "paid"}, True),
        ({"metadata.plan": {"$eq": "free"}}, False),
        ({"metadata.plan": {"$ne": "free"}}, True),
        ({"metadata.none": {"$ne": "free"}}, True),
        ({"metadata.none": {"$eq": None}}, True),
        ({"metadata.none": {"$eq": "None"}}, False),
        ({"metadata.plan": {"$in": ["free", "paid"]}}, True),
        ({"metadata.plan": {"$nin": ["free", "paid"]}}, False),
        ({"metadata.none": {"$nin": ["free"]}}, True),
        ({"metadata.seats": {"$gt": 9}}, True),
        ({"metadata.seats": {"$gte": "12", "$lt": 13}}, True),
        ({"metadata.seats": {"$lte": 11}}, False),
        ({"metadata.none": {"$lt": 5}}, False),
        ({"metadata.plan": {"$gt": 1}}, False),
        ({"metadata.beta": True}, True),
        ({"params.stream": "true"}, True),
        ({"params.model": {"$regex": "^gpt-4"}}, True),
        ({"params.max_tokens": {"$regex": "5"}}, False),
        ({"params.a.b": 1}, True),
        ({"params.model.b": 1}, False),
        ({"url.pathname": "/v1/chat/completions"}, True),
        ({"metadata.plan": "paid", "params.stream": False}, False),
        ({"$or": [{"metadata.plan": "free"}, {"params.stream": True}]}, True),
        ({"$and": [{"metadata.plan": "paid"}, {"params.stream": False}]}, False),
        ({"$or": [{"metadata.plan": "paid"}], "params.stream": False}, False),
    ],
)
def test_a_query_matches_the_values(query, matches):
    assert query_matches(check_query(query), VALUES) is matches


@pytest.mark.parametrize(
    "query",
    [
        None,
        {},
        {"plan": "paid"},
        {"headers.authorization": "x"},
        {"metadata.": 1},
        {"metadata.plan": {"$where": "1"}},
        {"metadata.plan": {"$in": "paid"}},
        {"metadata.plan": {"$regex": "("}},
        {"metadata.plan": {"$regex": "(a+)+b"}},
        {"metadata.plan": {}},
        {"metadata.plan": {"$in": []}},
        {"metadata.plan": {"$nin": []}},
        {"$and": [{"metadata.plan": {}}]},
        {"$or": {}},
        {"$or": []},
        {"$and": [{"$and": [{"$and": [{"$and": [{"$and": [{"metadata.a": 1}]}]}]}]}]},
    ],
)
def test_an_invalid_query_raises_a_value_error(query):
    with pytest.raises(ValueError, match=r"."):
        check_query(query)
