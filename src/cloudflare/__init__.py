"""The protocols of `core.platform`, implemented with the Cloudflare Workers runtime."""
