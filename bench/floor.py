"""The Python floor: a minimal Worker that forwards the request and returns the reply."""

import js
from workers import WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = js.URL.new(request.url)
        target = f"{self.env.PROVIDER}{url.pathname}{url.search}"
        return await js.fetch(js.Request.new(target, request.js_object))
