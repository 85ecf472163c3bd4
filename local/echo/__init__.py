"""A provider without a model, whose replies repeat the text of the request."""

from local.echo.provider import MODELS, app

__all__ = ["MODELS", "app"]
