"""The proxy as the site file says: ``python -m hub_config.proxy NODE CONFIGURABLE-HTTP-PROXY``.

Addresses, ports and certificates come from the site file, so that hub and proxy can not differ. The token is handed on
in the environment: neither a command line nor an init system's file holds it. Runs as the hub's account, whose
processes' environment nobody but it and root can read, and becomes the proxy (exec).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from hub_config import certificates
from hub_config.addresses import hub_url
from hub_config.away import pages
from hub_config.secret_files import secret
from studiolo.errors import SiteError
from studiolo.site import Site, load

__all__ = ["command", "main"]

# Node's https takes the name that it verifies from the request's Host header, which here is the browser's, and not from
# the address that it connects to: https://nodejs.org/api/https.html, `servername`. With a name in the browser's
# address line no session could be reached; and what is verified would be the browser's choice. The proxy has no option
# for it, so that Node is told before it starts. Can go when configurable-http-proxy sets `servername` itself.
VERIFY_THE_TARGET = """
import https from "node:https";
import net from "node:net";
const { addRequest } = https.Agent.prototype;
https.Agent.prototype.addRequest = function (request, options, ...rest) {
  const servername = net.isIP(options.host) ? "" : options.host;
  return addRequest.call(this, request, { ...options, servername }, ...rest);
};
"""

# With an error target, which the hub is, the proxy has no setting for what it shows while that does not answer either. The
# method is the proxy's own: tests/chaos fails loudly should it move.
SHOW_AWAY = """
import ConfigurableProxy from %(module)s;
const pages = %(pages)s;
const plain = ConfigurableProxy.prototype._handleProxyErrorDefault;
ConfigurableProxy.prototype._handleProxyErrorDefault = function (code, kind, request, answer) {
  const page = request?.method === "GET" && (request.headers.accept ?? "").includes("text/html");
  if (code !== 503 || !page || answer.headersSent || answer.writableEnded) return plain.call(this, code, kind, request, answer);
  const wanted = (request.headers["accept-language"] ?? "").toLowerCase().split(",").map((each) => each.trim().slice(0, 2));
  const language = wanted.find((each) => Object.hasOwn(pages, each)) ?? Object.keys(pages)[0];
  answer.writeHead(503, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Retry-After": "5" });
  answer.end(pages[language]);
};
"""


def command(site: Site, node: str, program: str) -> list[str]:
    """The proxy's whole command line."""
    hub = site.hub
    target = hub_url(site)
    line = [node]
    if hub.internal_tls:
        line += [f"--import=data:text/javascript,{quote(VERIFY_THE_TARGET)}"]
    module = Path(program).resolve().parent.parent / "lib" / "configproxy.js"
    show_away = SHOW_AWAY % {"module": json.dumps(module.as_uri()), "pages": json.dumps(pages(site))}
    line += [f"--import=data:text/javascript,{quote(show_away)}"]
    line += [program, "--ip", hub.address, "--port", str(hub.port)]
    if hub.tls_certificate:
        line += ["--ssl-cert", hub.tls_certificate, "--ssl-key", hub.tls_key]
    line += ["--api-ip", hub.proxy_address, "--api-port", str(hub.proxy_port), "--log-level", "warn"]
    line += ["--default-target", target, "--error-target", f"{target}{hub.base_url}hub/error"]
    if hub.internal_tls:
        line += [*_tls(site, "api", "proxy-api"), *_tls(site, "client", "proxy-client")]
    return line


def _tls(site: Site, option: str, component: str) -> list[str]:
    base = f"{site.certificates}/{component}/{component}"
    return [
        f"--{option}-ssl-key", f"{base}.key",
        f"--{option}-ssl-cert", f"{base}.crt",
        f"--{option}-ssl-ca", certificates.proxy_trust(site, component),
        f"--{option}-ssl-request-cert",
        f"--{option}-ssl-reject-unauthorized",
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the proxy."""
    parser = argparse.ArgumentParser(prog="python -m hub_config.proxy", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--site", default=os.environ.get("STUDIOLO_SITE", "/etc/studiolo/site.toml"), metavar="FILE")
    parser.add_argument("node", help="the Node.js that runs it, 20 or later")
    parser.add_argument("program", type=Path, help="…/node_modules/configurable-http-proxy/bin/configurable-http-proxy")
    options = parser.parse_args(arguments)
    try:
        site = load(options.site)
        if site.hub.internal_tls:
            certificates.ensure(site)
        token = secret(site, "proxy_token")
    except SiteError as error:
        sys.exit(str(error))
    line = command(site, options.node, str(options.program))
    os.execvpe(line[0], line, {**os.environ, "CONFIGPROXY_AUTH_TOKEN": token})  # noqa: S606 - a list of arguments


if __name__ == "__main__":
    main()
