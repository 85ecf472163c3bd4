"""A provider without a model, whose replies repeat what they are sent."""

from local.echo.provider import MODELS, app

__all__ = ["MODELS", "app"]
