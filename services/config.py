"""The configuration file: TOML, checked strictly, errors with the line and the fix.

Every setting is one `Setting` in `SETTINGS`: section, key, type, default,
bounds, and whether a running service takes a change. What the file holds beyond
these is an error, so that a typing mistake does not pass for a setting.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.room import explain
from storage import own

DEFAULT_PORT = 47800
"""The protocol's, which thin commands and the console do not import."""
DEFAULT_LISTEN = (f"0.0.0.0:{DEFAULT_PORT}", f"[::]:{DEFAULT_PORT}")
MAX_LISTEN = 16
"""Listeners of a gateway."""
MAX_FILE = 256 * 1024
"""Bytes of a configuration file; more is some other file."""
MAX_RESOLVERS = 6
MAX_EXEMPT = 100
"""Names that may have private addresses."""
MAX_ASKED = 4
"""STUN servers, and names, that a check asks: each costs some datagrams and some of the time."""
STUN = ("stun.cloudflare.com:3478", "stun.l.google.com:19302")
WHOAMI = (
    "whoami.akamai.net@ns1-1.akamaitech.net",
    "o-o.myaddr.l.google.com@ns1.google.com",
)
"""Two of each, of different owners, so that one that lies is contradicted."""
MAX_KEYS = 200
"""Actions of the console that have keys of the owner's."""
MAX_PATH = 1024
"""Characters of a program's path."""
MAX_PASSWORD = 255
"""Bytes (RFC 1929 section 2)."""
MIN_MTU = 1280
"""What IPv6 asks of every link (RFC 8200 5)."""
VPN_INTERFACE = "gateway.vpn_interface"
LOCAL_INTERFACES = "client.local_interfaces"
"""The settings that name interfaces of this host."""
LEVELS = ("debug", "info", "warning", "error")
FILTERING = ("address-dependent", "endpoint-independent")
"""RFC 4787 section 5. The second lets anybody send to a port that a device has sent from."""


class ConfigError(Exception):
    """The file cannot be used; the text names file, line, fault and fix."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: where it stands, what it may be. `check` raises ValueError with a sentence."""

    section: str
    key: str
    kind: type
    default: Any
    help: str
    check: Callable[[Any], Any] = lambda value: value
    live: bool = False
    """Whether a running service takes a change; else the next start does."""
    danger: bool = False
    """Whether it weakens a promise, so that whoever sets it should be asked twice."""
    secret: bool = False
    """Whether its value is for nobody to read: it is set, and never shown again."""

    @property
    def name(self) -> str:
        """As people and the control API spell it: `gateway.name`."""
        return f"{self.section}.{self.key}"


def parse_listen(text: str) -> tuple[str, int]:
    """`ADDRESS:PORT`, `[IPV6]:PORT` or `ADDRESS` as address and port. Raises ValueError."""
    from vshp.spelling import SpellingError, parse_place

    try:
        place = parse_place(text)
    except SpellingError as error:
        why = f": {str(error).removesuffix('.')}"
        place = None
    else:
        why = ""
    if place is None:
        raise ValueError(
            f"{text!r} is no address to listen on{why}; write 192.168.1.2:47800, "
            "[fe80::1]:47800 or 0.0.0.0:47800"
        )
    address = ipaddress.ip_address(place.host)
    return str(address), DEFAULT_PORT if place.port is None else place.port


def _listen(value: list[Any]) -> list[str]:
    if not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of strings like "0.0.0.0:47800"')
    if not 1 <= len(value) <= MAX_LISTEN:
        raise ValueError(f"must name 1 to {MAX_LISTEN} addresses")
    for item in value:
        parse_listen(item)
    return value


def _interface(value: str) -> str:
    # IFNAMSIZ (linux/if.h) is 16 with the NUL; the kernel refuses "/" and blanks.
    if value and not re.fullmatch(r"[^\s/:]{1,15}", value):
        raise ValueError("must be an interface's name (at most 15 characters)")
    return value


def _interfaces(value: list[Any]) -> list[str]:
    if not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of interfaces like "eth0" or "wl*"')
    return [_interface(item) for item in value]


def _proxy(value: str) -> str:
    if value:
        from client.model import ClientError
        from client.outlet.proxy.place import parse_place

        try:
            parse_place(value)
        except ClientError as error:
            raise ValueError(f"is no place for a proxy: {error.message} {error.hint}") from None
    return value


def _proxy_password(value: str) -> str:
    # RFC 1929 section 2 bounds it; a colon or a blank would not pass through an URL.
    if len(value) > MAX_PASSWORD or not re.fullmatch(r"[!-9;-~]*", value):
        raise ValueError(
            f"must be at most {MAX_PASSWORD} characters of ASCII, without blanks and colons"
        )
    return value


def _program(value: str) -> str:
    if value and (not value.startswith("/") or len(value) > MAX_PATH or not value.isprintable()):
        raise ValueError(f"must be an absolute path of at most {MAX_PATH} printable characters")
    return value


def _name(value: str) -> str:
    if len(value) > 64 or not value.isprintable():
        raise ValueError("must be at most 64 printable characters")
    return value


def _pool(version: int, longest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not value:
            return value
        from gateway.leases import is_lease_space

        try:
            network = ipaddress.ip_network(value)
        except ValueError as exc:
            raise ValueError(f"must be an IPv{version} network: {exc}") from None
        if network.version != version or network.prefixlen > longest:
            raise ValueError(f"must be an IPv{version} network of at least /{longest}")
        if not is_lease_space(network):
            raise ValueError("must be a private network (10.61.0.0/24, fd61::/64), nobody else's")
        return value

    return check


def written(value: float) -> str:
    """A number as a person writes it: no exponent, and no digits that mean nothing."""
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")


@dataclass(frozen=True, slots=True)
class Between:
    """A check: a number from `low` to `high`, both allowed."""

    low: float
    high: float

    def __call__(self, value: Any) -> Any:
        if not self.low <= value <= self.high:
            raise ValueError(f"must be {written(self.low)} to {written(self.high)}")
        return value


@dataclass(frozen=True, slots=True)
class OneOf:
    """A check: one of these words."""

    choices: tuple[str, ...]

    def __call__(self, value: str) -> str:
        if value not in self.choices:
            raise ValueError(f"must be one of: {', '.join(self.choices)}")
        return value


def _client_mtu(value: int) -> int:
    if value != 0 and not MIN_MTU <= value <= 65535:
        raise ValueError(f"must be 0, or {MIN_MTU} to 65535")
    return value


def _resolvers(value: list[Any]) -> list[str]:
    if not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of strings like "9.9.9.9" or "[2620:fe::fe]:53"')
    if len(value) > MAX_RESOLVERS:
        raise ValueError(f"must name at most {MAX_RESOLVERS} resolvers")
    from gateway.dns.upstreams import parse_server

    for item in value:
        parse_server(item)
    return value


def _exempt(value: list[Any]) -> list[str]:
    if not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of names like "corp.example.com"')
    if len(value) > MAX_EXEMPT:
        raise ValueError(f"must hold at most {MAX_EXEMPT} names")
    from gateway.dns.rebinding import parse_name

    for item in value:
        parse_name(item)
    return value


def _few(value: list[Any], what: str) -> list[str]:
    if not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a list of {what}")
    if len(value) > MAX_ASKED:
        raise ValueError(f"must name at most {MAX_ASKED}")
    return value


def _stun(value: list[Any]) -> list[str]:
    from services.check.places import parse_stun

    for item in _few(value, 'STUN servers like "stun.example.com:3478"'):
        parse_stun(item)
    return value


def _whoami(value: list[Any]) -> list[str]:
    from services.check.places import parse_whoami

    for item in _few(value, 'names like "whoami.example.com@ns.example.com"'):
        parse_whoami(item)
    return value


def _keys(value: dict[str, Any]) -> dict[str, str]:
    """Actions have dots in their names, which TOML may spell as tables in tables."""
    found = dict(_flat(value, ""))
    if len(found) > MAX_KEYS:
        raise ValueError(f"must name at most {MAX_KEYS} actions")
    for action, keys in found.items():
        if not isinstance(keys, str) or not 0 < len(keys) <= 64 or not keys.isprintable():
            raise ValueError(f'{action} must be keys like "x" or "x,ctrl+x"')
    return found


def _templates(value: dict[str, Any]) -> dict[str, Any]:
    from rules.spelling import RuleRefused
    from rules.templates import MAX_TEMPLATES, check_template

    if len(value) > MAX_TEMPLATES:
        raise ValueError(f"must hold at most {MAX_TEMPLATES} templates")
    for name, template in value.items():
        try:
            check_template(name, template)
        except RuleRefused as exc:
            raise ValueError(f"{name[:32]}: {exc}".removesuffix(".")) from None
    return value


def _flat(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


SETTINGS: tuple[Setting, ...] = (
    Setting("gateway", "name", str, "", "name shown to clients; empty: the host's name", _name,
            live=True),
    Setting("gateway", "listen", list, list(DEFAULT_LISTEN), "addresses to listen on", _listen,
            live=True),
    Setting("gateway", "vpn_interface", str, "", "the VPN's interface; empty: find it", _interface,
            live=True),
    Setting("gateway", "auto_approve_qr", bool, False, "approve who scanned the QR code",
            live=True, danger=True),
    Setting("gateway", "bypass", bool, False, "forward outside the VPN, too: not what you want",
            live=True, danger=True),
    Setting("gateway", "pool_ipv4", str, "", "clients' addresses; empty: free ones", _pool(4, 29)),
    Setting("gateway", "pool_ipv6", str, "", "likewise", _pool(6, 112)),
    Setting("gateway", "mtu", int, 1500, "largest packet of new leases", Between(MIN_MTU, 65535),
            live=True),
    Setting("gateway", "grace", float, 300.0, "seconds that a lost device's connections wait",
            Between(0, 86400), live=True),
    Setting("gateway", "lease", float, 86400.0,
            "seconds that a lease is good; renewed while its device is connected",
            Between(60, 30 * 86400), live=True),
    Setting("gateway", "udp_filtering", str, FILTERING[0],
            "which hosts may send to a device's UDP port: those it has sent to, or any",
            OneOf(FILTERING), live=True),
    Setting("gateway", "wireguard", int, 51820,
            "UDP port for WireGuard apps, once a device was made; 0: never", Between(0, 65535)),
    Setting("gateway", "announce", bool, True,
            "be found by mDNS while sharing or pairing (needs the package zeroconf)", live=True),
    Setting("gateway", "templates", dict, {},
            "the owner's rules by name; `templates` shows and changes them", _templates, live=True),
    Setting("gateway", "hook", str, "",
            "program run for each event, with JSON on its input; empty: none", _program, live=True),
    Setting("gateway", "wake_lock", bool, True, "keep a phone awake while sharing", live=True),
    Setting("dns", "servers", list, [], "resolvers, asked through the VPN; empty: the VPN's own",
            _resolvers, live=True),
    Setting("dns", "stale", float, 0.0,
            "seconds past their end that answers serve while no resolver answers; 0: never",
            Between(0, 604800), live=True),
    Setting("dns", "recent", int, 0,
            "how many of the last questions can be seen, with privacy.names; 0: none",
            Between(0, 1000), live=True),
    Setting("dns", "rebinding_protection", bool, True,
            "withhold answers that lead a public name to a private address", live=True),
    Setting("dns", "rebinding_exempt", list, [],
            "names that may have private addresses, each with all below it", _exempt, live=True),
    Setting("privacy", "names", bool, True,
            "show connections by the names that devices asked for; off: no name is remembered",
            live=True),
    Setting("client", "label", str, "", "name shown to the gateway; empty: the host's", _name),
    Setting("client", "interface", str, "vshp%d", "the virtual NIC's name", _interface),
    Setting("client", "offload", bool, True, "let the kernel segment and sum"),
    Setting("client", "mtu", int, 0, "largest packet; 0: as the lease says", _client_mtu),
    Setting("client", "routes", bool, True, "send all traffic into the tunnel"),
    Setting("client", "dns", bool, True, "use the gateway as resolver"),
    Setting("client", "forward", bool, True, "containers behind this device may use the tunnel"),
    Setting("client", "kill_switch", bool, False, "the kill switch by the firewall, too"),
    Setting("client", "open_on_failure", bool, False,
            "open the network when the link stays away or is refused", danger=True),
    Setting("client", "local_interfaces", list, [],
            "interfaces whose networks are direct; empty: all private ones; none: no network",
            _interfaces),
    Setting("client", "proxy", str, "",
            "a proxy in place of the virtual NIC: where it listens, as 127.0.0.1:1080; empty: none",
            _proxy),
    Setting("client", "proxy_password", str, "",
            "what others than this user need for the proxy, with the name vpnshare; empty: a token",
            _proxy_password, secret=True),
    Setting("client", "proxy_pac", bool, False, "the proxy hands out a proxy file to browsers"),
    Setting("client", "hook", str, "",
            "program run for each event, with JSON on its input; empty: none", _program, live=True),
    Setting("check", "stun", list, list(STUN),
            "STUN servers that a check asks for the address of the exit; two at least",
            _stun, live=True),
    Setting("check", "whoami", list, list(WHOAMI),
            "names whose servers tell a check who asks names, as NAME@SERVER; may be none",
            _whoami, live=True),
    Setting("logs", "level", str, "info", "least level", OneOf(LEVELS), live=True),
    Setting("logs", "format", str, "human", "human or json", OneOf(("human", "json"))),
    Setting("notify", "enabled", bool, True, "a notification while sharing", live=True),
    Setting("notify", "requests", bool, True, "a notification when a device asks to be let in",
            live=True),
    Setting("console", "theme", str, "", "the console's theme; empty: its default", _name,
            live=True),
    Setting("console", "bell", bool, True, "ring when a device asks to be let in", live=True),
    Setting("console", "ascii", bool, False, "draw with ASCII only", live=True),
    Setting("console", "refresh", float, 1.0, "seconds between two snapshots", Between(0.2, 60.0),
            live=True),
    Setting("console", "keys", dict, {}, 'the console\'s keys by action: "console.quit" = "x"',
            _keys, live=True),
)  # fmt: skip

SECTIONS = {
    "gateway": ("gateway", "dns", "privacy", "check", "notify", "logs", "console"),
    "client": ("client", "check", "logs", "console"),
}
"""Which sections concern which service. One file may serve both."""

_KINDS = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def find(name: str) -> Setting:
    """The setting `section.key`. Raises `ConfigError`."""
    for setting in SETTINGS:
        if setting.name == name:
            return setting
    near = difflib.get_close_matches(name, [s.name for s in SETTINGS], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{name[:80]!r} is no setting.{hint}")


class Config:
    """The settings: those given, else the defaults. `config["gateway", "name"]`."""

    def __init__(self, values: Mapping[tuple[str, str], Any]) -> None:
        self.given = dict(values)
        """What the file (or whoever made this) says; the rest are defaults."""
        self._values = {(s.section, s.key): s.default for s in SETTINGS} | self.given

    def __getitem__(self, key: tuple[str, str]) -> Any:
        return self._values[key]

    def text(self, section: str, key: str) -> str:
        return str(self._values[section, key])

    def flag(self, section: str, key: str) -> bool:
        return bool(self._values[section, key])


def load(path: Path) -> Config:
    """Read the file; no file is an empty one. Raises `ConfigError`."""
    try:
        raw = own.read(own.target(path), MAX_FILE + 1)
    except FileNotFoundError:
        return Config({})
    except OSError as exc:
        raise ConfigError(" ".join(filter(None, explain(exc)))) from exc
    if len(raw) > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE} bytes: is it the right file?")
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8. Save the file as UTF-8.") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Config:
    """Check the text of a file called `name`. Raises `ConfigError`."""
    import tomllib

    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(_syntax_error(name, str(exc))) from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply.") from None
    known = {(s.section, s.key): s for s in SETTINGS}
    sections = {s.section for s in SETTINGS}
    lines = _Lines(text)
    values: dict[tuple[str, str], Any] = {}
    for section, body in tree.items():
        if section not in sections or not isinstance(body, dict):
            what = f"[{section}]" if isinstance(body, dict) else f"{section!r} outside a section"
            raise _error(name, lines.of(section, None), f"{what} is not known", section, sections)
        for key, value in body.items():
            setting = known.get((section, key))
            line = lines.of(section, key)
            if setting is None:
                keys = {k for s, k in known if s == section}
                raise _error(name, line, f"{key!r} is not known in [{section}]", key, keys)
            values[section, key] = checked(setting, value, f"{name}, line {line}: ")
    return Config(values)


def checked(setting: Setting, value: Any, where: str = "") -> Any:
    """The value, if the setting may have it. Raises `ConfigError`, its text after `where`."""
    label = setting.name
    if setting.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not setting.kind:
        wanted = _KINDS[setting.kind]
        example = _toml(setting.default)
        raise ConfigError(f"{where}{label} must be {wanted}, for example {example}.")
    try:
        return setting.check(value)
    except ValueError as exc:
        raise ConfigError(f"{where}{label}: {exc}.") from None


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _error(name: str, line: int, fault: str, given: str, known: set[str]) -> ConfigError:
    near = difflib.get_close_matches(given, known, 1)
    fix = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(sorted(known))}."
    return ConfigError(f"{name}, line {line}: {fault}. {fix}")


def _syntax_error(name: str, text: str) -> str:
    found = re.search(r"^(.*?) \(at line (\d+), column (\d+)\)$", text)
    if found:
        return f"{name}, line {found[2]}, column {found[3]}: {found[1]}."
    return f"{name}: {text}."


class _Lines:
    """On which line a section or key of a TOML text stands (tomllib does not say)."""

    _HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
    _KEY = re.compile(r"\s*([A-Za-z0-9_.\"'\- ]+?)\s*=")

    def __init__(self, text: str) -> None:
        self._found: dict[tuple[str, str | None], int] = {}
        section = ""
        for number, line in enumerate(text.splitlines(), start=1):
            if header := self._HEADER.match(line):
                section = self._bare(header[1])
                self._found.setdefault((section, None), number)
            elif key := self._KEY.match(line):
                name = self._bare(key[1])
                if not section:
                    first, _, rest = name.partition(".")
                    self._found.setdefault((first, None), number)
                    self._found.setdefault((first, rest), number)
                self._found.setdefault((section, name), number)

    @staticmethod
    def _bare(name: str) -> str:
        return ".".join(part.strip().strip("\"'") for part in name.split("."))

    def of(self, section: str, key: str | None) -> int:
        places = (section, key), (f"{section}.{key}", None), (section, None)
        return next((self._found[place] for place in places if place in self._found), 1)
