// The JavaScript floor: a minimal Worker that forwards the request and returns the reply.
export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.PROVIDER + pathname + search, request));
  },
};
