"""The gateway outside of Cloudflare: in workerd, with an echo provider and a Langfuse inbox."""
