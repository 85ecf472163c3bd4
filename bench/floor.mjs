// The floor in JavaScript: a Worker that passes the request on and the reply back.
export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.PROVIDER + pathname + search, request));
  },
};
