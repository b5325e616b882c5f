"""Public resolvers that are asked by DNS over HTTPS, TLS or QUIC, as their operators name them.

The well-known ones, which systems and browsers offer in a list. A resolver that is in no list is
in none here either: whoever wants names to be asked of the gateway alone has to allow what may be
reached, not to deny what may not.
"""

from __future__ import annotations

NAMES = (
    "cloudflare-dns.com", "one.one.one.one",
    "dns.cloudflare.com", "cloudflare-gateway.com",
    "dns.google", "dns.google.com",
    "quad9.net",
    "dns.opendns.com", "doh.opendns.com", "doh.familyshield.opendns.com", "dns.umbrella.com",
    "adguard-dns.com", "dns.adguard.com",
    "cleanbrowsing.org",
    "dns.nextdns.io", "dns1.nextdns.io", "dns2.nextdns.io",
    "freedns.controld.com", "dns.controld.com",
    "dns.mullvad.net", "doh.mullvad.net",
    "joindns4.eu",
    "doh.sb", "dot.sb",
    "dns.alidns.com", "doh.pub", "dot.pub",
    "common.dot.dns.yandex.net", "safe.dot.dns.yandex.net", "family.dot.dns.yandex.net",
    "dns.apple.com",
    # What Firefox asks for: where the answer is a refusal, it leaves names to the system.
    "use-application-dns.net",
)  # fmt: skip

ADDRESSES = (
    # Cloudflare: developers.cloudflare.com/1.1.1.1/ip-addresses
    "1.1.1.1/32", "1.0.0.1/32", "1.1.1.2/31", "1.0.0.2/31",
    "2606:4700:4700::1111/128", "2606:4700:4700::1001/128",
    "2606:4700:4700::1112/127", "2606:4700:4700::1002/127",
    "2606:4700:4700::64/128", "2606:4700:4700::6400/128",
    # Google: developers.google.com/speed/public-dns/docs/using
    "8.8.8.8/32", "8.8.4.4/32", "2001:4860:4860::8888/128", "2001:4860:4860::8844/128",
    "2001:4860:4860::6464/128", "2001:4860:4860::64/128",
    # Quad9: quad9.net/service/service-addresses-and-features
    "9.9.9.9/32", "9.9.9.10/31", "149.112.112.112/32", "149.112.112.10/31",
    "2620:fe::fe/128", "2620:fe::9/128", "2620:fe::10/127", "2620:fe::fe:10/127",
    # OpenDNS: support.opendns.com, "OpenDNS IP addresses"
    "208.67.222.222/32", "208.67.220.220/32", "208.67.222.123/32", "208.67.220.123/32",
    "208.67.222.2/32", "208.67.220.2/32", "2620:119:35::35/128", "2620:119:53::53/128",
    "2620:119:35::123/128", "2620:119:53::123/128",
    # AdGuard: adguard-dns.io/en/public-dns.html
    "94.140.14.14/31", "94.140.15.15/32", "94.140.15.16/32", "94.140.14.140/31",
    "2a10:50c0::ad1:ff/128", "2a10:50c0::ad2:ff/128", "2a10:50c0::bad1:ff/128",
    "2a10:50c0::bad2:ff/128", "2a10:50c0::1:ff/128", "2a10:50c0::2:ff/128",
    # CleanBrowsing: cleanbrowsing.org/filters
    "185.228.168.168/32", "185.228.169.168/32", "185.228.168.10/32", "185.228.169.11/32",
    "185.228.168.9/32", "185.228.169.9/32", "2a0d:2a00:1::/126", "2a0d:2a00:2::/126",
    # NextDNS, which has an address for each customer: nextdns.io
    "45.90.28.0/24", "45.90.30.0/24", "2a07:a8c0::/48", "2a07:a8c1::/48",
    # Control D, likewise: docs.controld.com
    "76.76.2.0/24", "76.76.10.0/24", "2606:1a40::/48", "2606:1a40:1::/48",
    # DNS4EU: joindns4.eu/for-public
    "86.54.11.0/24", "2a13:1001::86:54:11:0/112",
    # DNS.SB: dns.sb/guide
    "185.222.222.222/32", "45.11.45.11/32", "2a09::/128", "2a11::/128",
    # Alibaba: alidns.com; DNSPod: dnspod.cn
    "223.5.5.5/32", "223.6.6.6/32", "2400:3200::1/128", "2400:3200:baba::1/128",
    "1.12.12.12/32", "120.53.53.53/32",
    # Yandex: dns.yandex.com
    "77.88.8.0/28", "77.88.8.88/32", "2a02:6b8::feed:ff/128", "2a02:6b8:0:1::feed:ff/128",
)  # fmt: skip
