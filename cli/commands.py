"""The commands: name, help, examples, options, and where the work is done.

Nothing here does anything: the module named by `run` is imported only when its
command is the one given, and the parser is built for that command alone. So
`vpnshare status` pays neither for the console nor for the daemons.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from cli.options import common, look, receive, share, start
from control import calling


@dataclass(frozen=True, slots=True)
class Command:
    """A command. `run` is `module:function`; the function takes the options, returns the exit."""

    name: str
    group: str
    help: str
    run: str
    options: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]
    details: str = ""


_READ = "cli.reading"
_RULES = "cli.rules"
_ACT = "cli.acting"
_RUN = "cli.running"
_TUNNEL = "cli.tunnel"

COMMANDS: tuple[Command, ...] = (
    Command(
        "up", "Start", "start sharing, and open the console", f"{_RUN}:up", start.of_up,
        ("vpnshare up", "vpnshare up --vpn-interface tun0 --no-console"),
        "Starts a gateway service in the background if none runs, turns sharing on and opens\n"
        "the console with the pairing code. The service stays when the console is left;\n"
        "`vpnshare down` stops it.",
    ),
    Command(
        "join", "Start", "use a gateway's VPN: service, pairing, connection, console",
        "cli.joining:join", start.of_join,
        ("vpnshare join", "vpnshare join -", "vpnshare join 192.168.1.20", "vpnshare join phone",
         "vpnshare join 192.168.1.20 --code 483920",
         "ssh phone vpnshare pair --json | jq -r .uri | vpnshare join -"),
        "The counterpart of `up`, on the device. It gets root's rights by sudo, starts a client\n"
        "service in the background if none runs, connects (to the last gateway; if none is known,\n"
        "to one that is near, of your choice) and opens the console. `vpnshare leave` ends it. By\n"
        "address both sides show six digits, and both have to say that they are the same: see\n"
        "`connect`.\n"
        "Ctrl-C before it is connected takes back what it began.",
    ),
    Command(
        "leave", "Start", "disconnect, and stop the service that `join` started",
        "cli.joining:leave", common.json_too, ("vpnshare leave", "vpnshare leave --json"),
        "Routes and resolver are as before. A service that was started in another way goes on.",
    ),
    Command(
        "restart", "Start", "have running services begin anew, as what is installed now",
        "cli.restarting:restart", common.role_and_json,
        ("vpnshare restart", "vpnshare restart --role gateway --json"),
        "For after an upgrade. Devices come back by themselves, a client resumes its session with\n"
        "its connections, and its network stays closed meanwhile. A unit is restarted by its\n"
        "manager; a service in somebody's terminal is left to them.",
    ),
    Command(
        "down", "Start", "stop the services", f"{_RUN}:down", common.role_and_json,
        ("vpnshare down", "vpnshare down --role client"),
    ),
    Command(
        "console", "Start", "control a running service in the terminal", f"{_RUN}:console",
        start.of_console, ("vpnshare console", "vpnshare console --role client",
                   "vpnshare console --host u0_a123@phone:8022"),
    ),
    Command(
        "demo", "Start", "try it: a VPN, a gateway and a device on this machine",
        "cli.trying:run", start.of_demo,
        ("sudo vpnshare demo", "sudo vpnshare demo --no-console --seconds 10"),
        "Needs root and Linux. Three network namespaces with real services and real traffic,\n"
        "and the console in front; w switches between gateway and device. The machine's own\n"
        "network is not touched, and nothing is left when the console is closed.",
    ),
    Command(
        "gateway", "Start", "run the sharing service in the foreground", f"{_RUN}:gateway",
        start.of_gateway,
        ("vpnshare gateway --share", "vpnshare gateway --listen 10.0.0.2:47800 --log-format json"),
        "Starts idle: sharing is turned on by `vpnshare share`, in the console, or by --share.",
    ),
    Command(
        "client", "Start", "run the receiving service in the foreground", f"{_RUN}:client",
        start.of_client,
        ("sudo vpnshare client", "sudo vpnshare client --interface tun7 --no-dns",
         "vpnshare client --private", "vpnshare client --proxy",
         "vpnshare client --proxy 127.0.0.1:1081 --pac"),
        "Needs the right to make network interfaces (root), but for --private, where only what is\n"
        "started by `vpnshare run` uses the tunnel, and for --proxy, where only programs that are\n"
        "told to use the proxy do. Starts idle: see `vpnshare connect`.",
    ),
    Command(
        "bundle", "Start", "make a file that sets up another machine without a network",
        "cli.bundling:make", start.of_bundle,
        ("vpnshare bundle", "vpnshare bundle /media/stick/vpnshare.tar",
         "vpnshare bundle --machine aarch64", "vpnshare bundle --python 3.13"),
        "This program and all packages that it needs, for Linux with glibc. Carry it over (a USB\n"
        "stick, scp, a cable), and there: tar xf FILE, then ./vpnshare in the folder that it\n"
        "makes. Here it needs a network, for what it fetches; the other machine needs Python\n"
        "alone.",
    ),
    Command(
        "service", "Start", "have the system start a service by itself",
        "cli.service:service", start.of_unit,
        ("vpnshare service install", "sudo vpnshare service install --role client",
         "sudo vpnshare service install --role client --copy",
         "vpnshare service install --dry-run", "vpnshare service status"),
        "systemd (for the machine as root, else for yourself), or runit in Termux. The service\n"
        "starts idle unless --share is given. What a unit of the machine runs has to be root's,\n"
        "and nobody else's to write; --copy makes it so, and brings it up to date later.",
    ),
    Command(
        "status", "Look", "what the services are doing", f"{_READ}:status", look.of_status,
        ("vpnshare status", "vpnshare status --watch", "vpnshare status --role client --json"),
        "With --json: the object of the one service that runs, or {\"gateway\": ..., \"client\":\n"
        "...} when both run and no --role is given.",
    ),
    Command(
        "share", "Share", "turn sharing on", f"{_ACT}:share", common.json_too,
        ("vpnshare share",),
    ),
    Command(
        "unshare", "Share", "turn sharing off: devices lose the Internet", f"{_ACT}:unshare",
        common.json_too,
        ("vpnshare unshare",),
    ),
    Command(
        "relisten", "Share", "open the listening sockets anew", f"{_ACT}:relisten",
        share.of_relisten,
        ("vpnshare relisten", "vpnshare relisten --drop"),
        "For when devices cannot come in any more although the gateway runs: after the hotspot\n"
        "or an interface was turned off and on, say. Connected devices stay connected. To listen\n"
        "elsewhere: vpnshare set gateway.listen 0.0.0.0:47801",
    ),
    Command(
        "pair", "Share", "show the code that lets a device in", "cli.pairing:pair",
        share.of_pair,
        ("vpnshare pair", "vpnshare pair --wait", "vpnshare pair --json"),
        "The code holds a secret that works once, for two minutes. The device still waits for\n"
        "your approval (`vpnshare requests`), unless you have set gateway.auto_approve_qr.",
    ),
    Command(
        "wireguard", "Share", "devices that come by a WireGuard app",
        "cli.wireguard:wireguard", share.of_wireguard,
        ("vpnshare wireguard", "vpnshare wireguard add phone",
         "vpnshare wireguard add tv --conf tv.conf",
         "vpnshare wireguard add laptop --png laptop.png --endpoint phone.local",
         "vpnshare wireguard add router --key xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
         "vpnshare wireguard renew phone", "vpnshare wireguard invite router --conf router.conf"),
        "For phones, tablets, televisions and computers with the WireGuard app. What is shown\n"
        "holds the device's private key: it is not kept, and cannot be shown again. The device\n"
        "still waits for your approval (`vpnshare requests`), unless you have set\n"
        "gateway.auto_approve_qr. One config is for one device. For another code, renew: the\n"
        "device keeps its name and addresses, and its old key works until the new one is used.",
    ),
    Command(
        "requests", "Share", "devices that wait for approval", f"{_READ}:requests", common.viewing,
        ("vpnshare requests", "vpnshare requests --watch", "vpnshare requests --json"),
    ),
    Command(
        "approve", "Share", "let a waiting device in", f"{_ACT}:approve",
        share.of_approve, ("vpnshare approve", "vpnshare approve 483920", "vpnshare approve 3f",
                   "vpnshare approve 3f --rules guest", "vpnshare approve --for 2h --quota 1GB"),
        "Compare the six digits on both devices first, when `vpnshare requests` shows some. Or\n"
        "type those that the device shows: no other request has them. Without any it is the only\n"
        "device that waits; on a terminal it asks first whether the digits are the same.",
    ),
    Command(
        "deny", "Share", "turn a waiting device away", f"{_ACT}:deny",
        share.of_deny, ("vpnshare deny", "vpnshare deny 3f", "vpnshare deny --all",
               "vpnshare deny --undo"),
        "A device that was denied, and its address, are kept away for a while. --undo lets it\n"
        "ask again at once.",
    ),
    Command(
        "peers", "Share", "devices that were approved", f"{_READ}:peers", common.viewing,
        ("vpnshare peers", "vpnshare peers --json"),
    ),
    Command(
        "usage", "Share", "what devices have used, by hour, day or month",
        "cli.usage:usage", share.of_usage,
        ("vpnshare usage", "vpnshare usage --watch", "vpnshare usage --since 7d",
         "vpnshare usage tablet", "vpnshare usage tablet --by hour --since 6h",
         "vpnshare usage --by month --csv", "vpnshare usage --by day --since 2026-11-01 --json"),
        "Bytes of IP packets, up to now. Without --by: a line for each device, of all that it\n"
        "ever used; for one device its last 30 days. 48 hours and 400 days are kept. What counts\n"
        "is in docs/usage.md.",
    ),
    Command(
        "rules", "Share", "what a device may do: quota, speed, hours, destinations",
        f"{_RULES}:rules", share.of_rules,
        ("vpnshare rules tablet", "vpnshare rules tablet --quota 1GB/day --limit-down 20mbit",
         "vpnshare rules tablet --hours 'mon-fri 07:00-20:00' --hours 'sat,sun 09:00-21:00'",
         "vpnshare rules guest --for 2h", "vpnshare rules tablet --pause",
         "vpnshare rules tv --allow 'tcp 443' --allow 'udp 443' --deny all",
         "vpnshare rules tablet --template family", "vpnshare rules tablet --quota none",
         "vpnshare rules tablet --clear"),
        "Without an option it shows them. What is not named stays as it is; none takes a rule\n"
        "away. A change counts at once, also for running connections. Times are those of the\n"
        "gateway's clock. All of it is in docs/rules.md.",
    ),
    Command(
        "templates", "Share", "rules that go by a name", f"{_RULES}:templates",
        share.of_templates,
        ("vpnshare templates", "vpnshare templates child --quota 2GB/day --hours 07:00-20:00",
         "vpnshare templates child --remove"),
        "For `vpnshare approve --rules NAME`, `vpnshare rules DEVICE --template NAME` and the\n"
        "console. Some are shipped; a change of one is yours, and removing it brings it back.\n"
        "A device keeps the rules that it was given when a template changes.",
    ),
    Command(
        "revoke", "Share", "end a device's pairing: it has to ask again", f"{_ACT}:revoke",
        lambda p: common.of_one(p, "device"),
        ("vpnshare revoke a1b2", "vpnshare revoke 'Living room TV'"),
    ),
    Command(
        "rename", "Share", "give a device another name", f"{_ACT}:rename", share.of_rename,
        ('vpnshare rename a1b2 "Living room TV"',),
    ),
    Command(
        "leases", "Share", "what approved devices were given", f"{_READ}:leases", common.viewing,
        ("vpnshare leases", "vpnshare leases --json"),
    ),
    Command(
        "flows", "Look", "live connections through the tunnel", f"{_READ}:flows", look.of_flows,
        ("vpnshare flows", "vpnshare flows --sort bytes --filter 'tcp :443' --limit 20",
         "vpnshare flows --role client --peer firefox"),
        "Those of the devices, when a gateway runs here; else this device's own, by the word of\n"
        "its kernel, which does not count the bytes of UDP (shown as -).",
    ),
    Command(
        "counters", "Look", "what was counted, and what that means", f"{_READ}:counters",
        look.of_counters,
        ("vpnshare counters", "vpnshare counters dropped --role gateway",
         "vpnshare counters --device tablet"),
    ),
    Command(
        "connect", "Receive", "connect to a gateway", "cli.connecting:connect",
        receive.of_connect,
        ("vpnshare connect -", "vpnshare connect 192.168.1.20:47800",
         "vpnshare connect 192.168.1.20:47800 --code 483920", "vpnshare connect phone.lan",
         "vpnshare connect", "vpnshare connect --scan", "vpnshare connect phone --wait 20",
         "ssh phone vpnshare pair --json | jq -r .uri | vpnshare connect -"),
        "Without a word: to the last gateway; if none is known, to what is found on the cable, at\n"
        "this network's router and by announcement, of which you choose. Exits with 0 when\n"
        "connected. A URI on the command line works, too, but stands in the\n"
        "shell's history, and other users of this machine can read it there. By address, both\n"
        "sides show six digits, and both have to say that they are the same. Without a terminal\n"
        "the command then ends with 8, and the attempt waits for --code with the digits of the\n"
        "gateway's screen. With --yes nobody compares: whoever answers is believed.",
    ),
    Command(
        "run", "Receive", "run a command whose network is the tunnel, without root",
        "cli.private:run", receive.of_run,
        ("vpnshare run -- curl https://example.com", "vpnshare run --to phone -- firefox",
         "vpnshare run --to - -- git clone https://example.com/repository",
         "vpnshare run --join -- ping 9.9.9.9"),
        "The command and what it starts have a network of their own, which is the tunnel and\n"
        "nothing else; the rest of the machine stays as it is. Without the tunnel they have none.\n"
        "A client service is started for it if none of yours runs, until the last command ends.\n"
        "Terminal, signals, working folder and exit status are the command's. Inside, sudo cannot\n"
        "give rights. What is reached by a socket of this machine (D-Bus, X) stays reachable.",
    ),
    Command(
        "shell", "Receive", "a shell whose network is the tunnel, without root",
        "cli.private:shell", receive.of_private,
        ("vpnshare shell", "vpnshare shell --to phone", "vpnshare shell --join"),
        "As `run`, with the shell that SHELL names; its prompt begins with a sign.",
    ),
    Command(
        "discover", "Receive", "gateways on this network: announced, or its router",
        "cli.discovering:discover", receive.of_discover,
        ("vpnshare discover", "vpnshare discover --seconds 5 --json"),
        "Anybody can announce anything: compare the six digits when you connect.",
    ),
    Command(
        "disconnect", "Receive", "disconnect, and undo all changes to the system",
        "cli.connecting:disconnect", common.json_too, ("vpnshare disconnect",),
    ),
    Command(
        "endpoints", "Receive", "where the gateway may be reached, and who won the race",
        f"{_TUNNEL}:endpoints",
        common.viewing, ("vpnshare endpoints", "vpnshare endpoints --json"),
        "All endpoints of the present gateway, the best first, with the last outcome of each.",
    ),
    Command(
        "history", "Receive", "past links: when, by what, why they ended", f"{_TUNNEL}:history",
        common.viewing, ("vpnshare history", "vpnshare history --json"),
        "The last 64 links since the service began, the newest first. `away before` is how long\n"
        "nothing carried before a link; `resumed` means that the session went on, flows and all.",
    ),
    Command(
        "gateways", "Receive", "gateways this device was approved by", f"{_READ}:gateways",
        common.viewing,
        ("vpnshare gateways",),
    ),
    Command(
        "forget", "Receive", "forget a gateway", f"{_ACT}:forget",
        lambda p: common.of_one(p, "gateway"),
        ("vpnshare forget phone",),
    ),
    Command(
        "usb", "Receive", "phones on the cable, and why one cannot be used",
        "cli.usb:usb", receive.of_usb,
        ("vpnshare usb", "vpnshare usb --json", "vpnshare usb forget"),
        "A phone with USB debugging on is reached by the cable without another program; one that\n"
        "serves the phones here already is used. The phone asks its owner once, on its unlocked\n"
        "screen; who presses Allow there lets this device do all that a computer may do with a\n"
        "phone. `usb forget` removes the key that it was allowed with. A phone forgets a key by\n"
        "itself that was not used for seven days.",
    ),
    Command(
        "settings", "Look", "what can be set, and how it is set", "cli.setting:settings",
        look.of_settings,
        ("vpnshare settings", "vpnshare settings dns", "vpnshare settings --json"),
        "Settings are kept in config.toml. With --json: a list.",
    ),
    Command(
        "get", "Look", "print a setting's value, as `set` takes it", "cli.setting:get",
        look.of_get, ("vpnshare get gateway.listen", "vpnshare get client.kill_switch --json"),
    ),
    Command(
        "set", "Look", "change a setting", "cli.setting:change", look.of_set,
        ("vpnshare set gateway.auto_approve_qr on", "vpnshare set dns.servers 9.9.9.9,1.1.1.1",
         "vpnshare set gateway.listen 0.0.0.0:47801", "vpnshare set gateway.name --default",
         "vpnshare set client.proxy_password -"),
        "Written into config.toml, comments kept. A running service follows at once where it\n"
        "can; what needs a restart is said.",
    ),
    Command(
        "logs", "Look", "the last log lines of a service", f"{_READ}:logs", look.of_logs,
        ("vpnshare logs", "vpnshare logs -f --level warning --role client",
         "vpnshare logs -n 2000 --filter 'dns timed'",
         "vpnshare logs --device 'Living room TV'"),
        "With -f no line is printed twice, and none is missing without a word: when more came\n"
        "than the service keeps, it is said how many.",
    ),
    Command(
        "doctor", "Look", "find out what is missing, and the fix", "cli.diagnosis:doctor",
        common.role_and_json, ("vpnshare doctor", "vpnshare doctor --role client --json"),
        "Services that run examine themselves; otherwise this machine is looked at. Exits with\n"
        "1 when something is broken.",
    ),
    Command(
        "check", "Look", "ask servers outside whether traffic leaves by the VPN",
        "cli.checking:check", look.of_check,
        ("vpnshare check", "vpnshare check --ipv6", "vpnshare check --role client --json"),
        "Asks the STUN servers in check.stun for the address that they see, and the names in\n"
        "check.whoami for who asks names, through the VPN only. Takes up to ten seconds. Exits\n"
        "with 1 when something leaves outside the VPN, with 10 when it cannot be told.",
    ),
    Command(
        "api", "Look", "call a method of the control API", "cli.calls:api", look.of_api,
        ("vpnshare api", "vpnshare api peers",
         "vpnshare api flows '{\"sort\":\"rate\",\"limit\":5}'",
         "vpnshare api approve '{\"id\":\"3f\"}'"),
        "Prints the result as JSON, and an error as JSON, too. Methods, parameters and what may\n"
        "be relied on are in docs/api.md.",
    ),
    Command(
        "watch", "Look", "follow a topic of the control API, a line of JSON a change",
        "cli.calls:watch", look.of_watch,
        ("vpnshare watch peers | jq -c .", "vpnshare watch flows '{\"limit\":5}' --interval 5"),
        "Each line is what `vpnshare api TOPIC` prints: first now, then when it has changed. When\n"
        "the service ends it waits for the next one, and says so on standard error.",
    ),
    Command(
        "metrics", "Look", "metrics of the services that run, for Prometheus",
        "cli.metrics:metrics", look.of_metrics,
        ("vpnshare metrics", "vpnshare metrics --listen 127.0.0.1:9478",
         "vpnshare metrics --listen 0.0.0.0:9478 --token-file token"),
        "Prints them once, or with --listen answers scrapes in the foreground until Ctrl-C. Needs\n"
        "the package prometheus_client. All are in docs/metrics.md, with a dashboard.",
    ),
    Command(
        "completion", "Look", "what a shell needs to complete this command line",
        "cli.completing:completion", look.of_completion,
        ("source <(vpnshare completion bash)",
         "vpnshare completion zsh >~/.zfunc/_vpnshare",
         "vpnshare completion fish >~/.config/fish/completions/vpnshare.fish"),
        "Commands, options, settings and the names of devices, requests and gateways. For bash\n"
        "put the line into ~/.bashrc; for zsh have the folder in fpath, before compinit.",
    ),
    Command(
        "manual", "Look", "all commands with their options, to read", "cli.manual:manual",
        common.nothing, ("vpnshare manual", "vpnshare manual >vpnshare.1"),
        "On a terminal by man(1), or by a pager where there is none. Else the page's source.",
    ),
    Command(
        "control", "", "the control socket on standard input and output, for `console --host`",
        "cli.bridge:control", start.of_control, ("vpnshare control --role gateway",),
    ),
    Command(
        "version", "Look", "print the version", f"{_READ}:version",
        common.json_too, ("vpnshare version",),
    ),
)  # fmt: skip

GROUPS = ("Start", "Share", "Receive", "Look")


def parser_for(command: Command) -> argparse.ArgumentParser:
    """The parser of one command."""
    text = command.help[0].upper() + command.help[1:] + "."
    if command.details:
        text += f"\n\n{command.details}"
    parser = argparse.ArgumentParser(
        prog=f"{calling.name()} {command.name}",
        description=calling.pasted(text),
        epilog="examples:\n"
        + "\n".join(f"  {calling.pasted(example)}" for example in command.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.register("type", None, common.filled)
    command.options(parser)
    return parser
