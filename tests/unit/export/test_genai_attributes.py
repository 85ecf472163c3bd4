"""Tests of `genai_attributes` against OpenTelemetry's own package of its semantic conventions."""

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as conventions

from export import genai_attributes
from export.genai_attributes import OPERATIONS, PROVIDERS
from settings import provider_table

NAMES = [name for name in vars(genai_attributes) if name.startswith("GEN_AI_")]
REGISTERED_PROVIDERS = {each.value for each in conventions.GenAiProviderNameValues}


@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_has_the_name_of_the_conventions(name: str):
    assert getattr(genai_attributes, name) == getattr(conventions, name)


def test_operations_are_those_of_the_conventions():
    assert {*OPERATIONS.values()} <= {each.value for each in conventions.GenAiOperationNameValues}


def test_providers_have_the_names_of_the_conventions():
    assert PROVIDERS.keys() <= provider_table.PROVIDERS.keys()
    assert {*PROVIDERS.values()} <= REGISTERED_PROVIDERS


@pytest.mark.parametrize("slug", provider_table.PROVIDERS)
def test_a_provider_that_the_conventions_list_has_their_name(slug: str):
    # The registry has an underscore where a slug has a hyphen.
    names = {slug.replace("-", "_"), slug.removesuffix("-ai")} & REGISTERED_PROVIDERS
    assert not names or PROVIDERS.get(slug, slug) in names
