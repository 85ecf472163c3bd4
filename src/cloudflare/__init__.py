"""The Cloudflare runtime behind the protocols of `core.platform`."""
