# holdfast in a container: `docker run -v holdfast-state:/var/lib/holdfast -v /srv:/srv holdfast daemon`.
#
# The image runs as user 10001, not as root. Know what that means: Linux gives the capabilities of `--cap-add` to root
# only, so as 10001 the daemon protects what that user may read and puts back what it may write, and cannot give files
# back to other owners. To protect files of many owners run it as root with nothing but what that needs:
#   docker run --user 0 --cap-drop ALL --cap-add DAC_READ_SEARCH --cap-add DAC_OVERRIDE --cap-add CHOWN \
#     --cap-add FOWNER --cap-add FSETID --cap-add SETFCAP --security-opt no-new-privileges ...
# Mount what is protected at the same path as outside, whole folders (not single files), or a rename cannot heal it.
FROM node:24-bookworm-slim AS builder
WORKDIR /opt/holdfast
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev --include=optional
COPY tsconfig.json ./
COPY scripts scripts
COPY src src
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="holdfast" \
      org.opencontainers.image.description="Files that come back" \
      org.opencontainers.image.licenses="Apache-2.0"
# git for the git_history strategy; tini reaps what the daemon's children leave behind.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 holdfast \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/holdfast --shell /usr/sbin/nologin holdfast \
 && install -d -m 0700 -o holdfast -g holdfast /var/lib/holdfast \
 && install -d -m 0755 -o holdfast -g holdfast /run/holdfast
WORKDIR /opt/holdfast
COPY --from=builder /opt/holdfast/package.json ./
COPY --from=builder /opt/holdfast/node_modules node_modules
COPY --from=builder /opt/holdfast/dist/app dist/app
COPY bin bin
COPY config config
RUN ln -s /opt/holdfast/bin/holdfast /usr/local/bin/holdfast
ENV NODE_ENV=production \
    HOLDFAST_STATE_DIR=/var/lib/holdfast \
    HOLDFAST_SOCKET=/run/holdfast/api.sock
VOLUME ["/var/lib/holdfast"]
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
  CMD ["node", "/opt/holdfast/bin/holdfast", "health", "--quiet"]
ENTRYPOINT ["tini", "--", "node", "--max-semi-space-size=2", "/opt/holdfast/bin/holdfast"]
CMD ["daemon"]
