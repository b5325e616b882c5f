"""The proxy auto-config file: which addresses a browser asks the proxy for.

HTTP's proxy stands first, since every browser leaves names to it; some look them up themselves
for SOCKS. There is no way past the proxy but to this device itself and to what is on its own
networks, which a NIC would not send into the tunnel either: when the proxy is away, pages fail.
"""

from __future__ import annotations

TYPE = b"application/x-ns-proxy-autoconfig"

_FILE = """\
// VPN Share: everything goes through the tunnel, but for this device and its own network.
function FindProxyForURL(url, host) {
  if (isPlainHostName(host) || shExpMatch(host, "*.local") || host == "[::1]" || host == "::1")
    return "DIRECT";
  if (/^[0-9.]+$/.test(host) && (
      isInNet(host, "127.0.0.0", "255.0.0.0") || isInNet(host, "10.0.0.0", "255.0.0.0") ||
      isInNet(host, "172.16.0.0", "255.240.0.0") || isInNet(host, "192.168.0.0", "255.255.0.0") ||
      isInNet(host, "169.254.0.0", "255.255.0.0")))
    return "DIRECT";
  return "PROXY %(place)s; SOCKS5 %(place)s";
}
"""


def pac_file(place: str) -> str:
    """The file for a proxy at `place` (`127.0.0.1:1080`)."""
    return _FILE % {"place": place}
