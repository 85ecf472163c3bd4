"""The cost that a provider states in a reply."""

from core.json_values import as_object, as_text, object_items
from core.strict_json import JsonObject, JsonValue
from dialects.usage import find_usage

# xAI's unit of cost, in US dollars. https://docs.x.ai/developers/cost-tracking
_TICKS_PER_DOLLAR = 10_000_000_000

# In US dollars. A stated cost above it is an error.
_MAX_COST = 1e9


def stated_chat_cost(reply: JsonObject) -> dict[str, float]:
    """The cost that the provider states in a chat, as `stated_cost` returns it: in the usage, else
    as a text in `cost` beside the usage (OpenCode Zen, in a chunk after `[DONE]`), or in the
    `provider_metadata.gateway` of a message (Vercel).

    https://opencode.ai/docs/zen, https://vercel.com/docs/ai-gateway
    """
    messages = (as_object(choice.get("message")) for choice in object_items(reply.get("choices")))
    metadata = (as_object(place.get("provider_metadata")) for place in (reply, *messages))
    texts = (
        as_text(p.get("cost")) for p in (reply, *(as_object(m.get("gateway")) for m in metadata))
    )
    costs = (stated_cost({"cost": _number(text)}) for text in texts if text)
    return stated_cost(find_usage(reply)) or next(filter(None, costs), None) or {}


def stated_cost(usage: JsonValue) -> dict[str, float]:
    """The cost that the provider states in the `usage` of a reply: `{"total": US dollars}`. Empty
    where it states none.

    Empty also for a cost of 0, since with it Langfuse would not calculate a cost of its own: a
    provider sends 0 for a model whose price it does not know, and OpenRouter for a call with the
    caller's own key at another provider. Only OpenRouter's 0 with `is_byok` false is a statement
    that the call was free.

    - `cost`: OpenRouter, also in replies of Anthropic's form; Perplexity's is an object.
      https://openrouter.ai/docs/use-cases/usage-accounting,
      https://docs.perplexity.ai/api-reference/sonar-post
    - `cost_in_usd_ticks`: xAI. https://docs.x.ai/developers/cost-tracking
    - `estimated_cost`: DeepInfra. https://deepinfra.com/docs/openai_api
    """
    usage = as_object(usage)
    cost = usage.get("cost")
    amount = _amount(cost.get("total_cost") if isinstance(cost, dict) else cost)
    upstream = _amount(as_object(usage.get("cost_details")).get("upstream_inference_cost"))
    is_byok = usage.get("is_byok")
    if is_byok is True or (is_byok is None and upstream and not amount):
        # `cost` is OpenRouter's fee alone, and the other provider charges the rest.
        amount = (amount or 0) + upstream if upstream else None
    elif is_byok is False and amount == 0 and cost == 0 and not upstream:
        return {"total": 0.0}
    ticks = _amount(usage.get("cost_in_usd_ticks"), _MAX_COST * _TICKS_PER_DOLLAR)
    total = amount or (ticks or 0) / _TICKS_PER_DOLLAR or _amount(usage.get("estimated_cost"))
    return {"total": float(total)} if total else {}


def _amount(value: JsonValue, maximum: float = _MAX_COST) -> int | float | None:
    """The value if it is a number from 0 to below `maximum`, else None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < maximum else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
