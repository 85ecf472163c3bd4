# The gateway in plain workerd. docs/self-hosting.md describes how to build and run it.
FROM node:24-trixie-slim AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 python3-pip
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY requirements-worker.txt ./
COPY local/vendor.py local/
RUN python3 local/vendor.py
COPY wrangler.toml ./
COPY local local
COPY src src
# Options of `make self-host`, such as "--allow 10.1.2.0/24".
ARG ARGS=""
RUN PYTHONPATH=src python3 -m local.selfhost --out /gateway $ARGS

FROM debian:trixie-slim
# workerd does not start without CA certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /gateway /gateway
USER 65534:65534
EXPOSE 8787
# The first request boots Python, so the health check also warms the process up.
HEALTHCHECK --start-period=30s --timeout=10s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8787 && printf 'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q '\"status\": \"ok\"' <&3"]
CMD ["/gateway/workerd", "serve", "--experimental", "--socket-addr=http=0.0.0.0:8787", "/gateway/config.capnp"]
