"""A browser through the proxy: a page of fifty resources over HTTP/1.1 and HTTP/2, byte for byte.

A series of its own, since it takes a browser: `apt install chromium-headless-shell nghttp2-server`
and, as root,

    VPNSHARE_TEST_BROWSER=1 python -m pytest -s tests/netns/test_browser.py
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator

import pytest

from tests.netns.test_proxy import PLACE, USER, Proxied, proxied

BROWSER, SERVER2 = "chromium-headless-shell", "nghttpd"

pytestmark = pytest.mark.skipif(
    "VPNSHARE_TEST_BROWSER" not in os.environ or not shutil.which(BROWSER),
    reason="a series of its own: see the first lines of this file",
)

RESOURCES = 50
PAGE = """<html><body><p id=said>begun</p><script>
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, "0")).join("");
async function one(n) {
  const body = await (await fetch("/r" + n)).arrayBuffer();
  return hex(await crypto.subtle.digest("SHA-256", body));
}
Promise.all([...Array(%d).keys()].map(one)).then(async all => {
  const protocol = performance.getEntriesByType("resource")[0].nextHopProtocol;
  said.textContent = protocol + " " + all.join(" ");
}).catch(e => said.textContent = "failed " + e);
</script></body></html>
"""
PLAIN = """
import http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[1])
server = http.server.ThreadingHTTPServer(("", 8444), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""
__all__ = ["proxied"]


@pytest.fixture(scope="module")
def pages(proxied: Proxied) -> Iterator[list[str]]:
    """The digests of what is served at 8444 by HTTP/1.1, and at 8445 by HTTP/2."""
    world = proxied.world
    folder = world.directory / "site"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE % RESOURCES)
    digests = []
    for number in range(RESOURCES):
        data = os.urandom(1 + number * number * 100)
        (folder / f"r{number}").write_bytes(data)
        digests.append(hashlib.sha256(data).hexdigest())
    key, certificate = map(str, world.certificate())
    one = world.server.start(
        [sys.executable, "-c", PLAIN, key, certificate], name="https", cwd=folder
    )
    two = world.server.start([SERVER2, "-d", str(folder), "8445", key, certificate], name=SERVER2)
    one.wait_for_log("ready")
    yield digests
    for server in (one, two):
        server.kill()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(("port", "protocol"), [(8444, "http/1.1"), (8445, "h2")])
def test_a_page_of_fifty_resources(
    proxied: Proxied, pages: list[str], scheme: str, port: int, protocol: str
) -> None:
    home = proxied.world.directory / f"browser-{scheme}-{port}"
    home.mkdir()
    os.chown(home, USER, USER)
    done = proxied.run(
        "env", f"HOME={home}", BROWSER, "--headless", "--no-sandbox", "--disable-gpu",
        f"--user-data-dir={home}", f"--proxy-server={scheme}://{PLACE}",
        "--ignore-certificate-errors", "--virtual-time-budget=60000", "--dump-dom",
        f"https://server.test:{port}/",
    )  # fmt: skip
    said = re.search(r"<p id=\"said\">(.*?)</p>", done.stdout)
    assert said is not None, done
    assert said.group(1).split() == [protocol, *pages]
