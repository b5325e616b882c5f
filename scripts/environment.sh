# Makes the virtual environment of a clone. Sourced by ./vpnshare and ./check, which
# set `root` (the clone) and `venv` (the environment's folder).
#
# Two set-ups at once take turns. One that was killed leaves `.incomplete` behind,
# and the next begins anew. What it prints goes to standard error, so that the
# output of the command that follows stays clean.

oldest=3.11
# The distribution's first: it is built with profile-guided optimization, which a Python built
# from source by default is not, and that is a fifth of the time of every packet.
pythons=${VPNSHARE_PYTHON:-/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11}
setup_log=$venv/setup.log
# A bundle (services/bundle.py) brings all packages along, and pip besides.
wheels=$root/wheels
makes_environments="ssl, venv"
if ! [ -d "$wheels" ]; then
    wheels=
    makes_environments="ensurepip, ssl, venv"
fi

say() {
    printf 'vpnshare: %s\n' "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

is_termux() {
    case ${PREFIX:-} in
    /data/*/usr) return 0 ;;
    esac
    return 1
}

has_apt() {
    [ -e /etc/debian_version ] && command -v apt-get >/dev/null 2>&1
}

# as_root COMMAND...: run it as root, if we are or may become that.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        return 126
    fi
}

# agreed QUESTION: yes, unless there is a person who says otherwise. Without a terminal (a
# script, a service) nobody can be asked: what is done has been said.
agreed() {
    [ -t 0 ] && [ -t 2 ] || return 0
    printf 'vpnshare: %s [Y/n] ' "$1" >&2
    IFS= read -r answer || answer=n
    case $answer in
    '' | [Yy]*) return 0 ;;
    esac
    return 1
}

# apt_would_install PACKAGE...: all packages that come with these; fails without package lists.
apt_would_install() {
    apt-get install -s -qq --no-install-recommends "$@" 2>/dev/null >"$setup_log" || return 1
    sed -n 's/^Inst \([^ ]*\).*/\1/p' "$setup_log" | tr '\n' ' '
}

# apt_install PACKAGE...: install Debian packages, once somebody who can be asked has agreed;
# the package lists are fetched if needed. 125: not agreed.
apt_install() {
    would=$(apt_would_install "$@") || {
        say "fetching the lists of Debian packages: apt-get update"
        as_root apt-get update -qq >"$setup_log" 2>&1 || true
        would=$(apt_would_install "$@") || would="$*"
    }
    say "to be installed with apt: ${would:-$*}"
    agreed "Install these packages?" || return 125
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "$@" >"$setup_log" 2>&1
}

# works PYTHON: is it of a version we run on, and able to make environments?
works() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
            >/dev/null 2>&1 &&
        "$1" -I -c "import $makes_environments" >/dev/null 2>&1
}

# make_venv PYTHON: an empty environment with pip in it.
make_venv() {
    if [ -n "$wheels" ]; then
        "$1" -I -m venv --without-pip "$venv" || return 1
        for pip in "$wheels"/pip-*.whl; do :; done
        "$venv/bin/python" -I "$pip/pip" install --no-index --no-deps "$pip"
    elif is_termux; then
        "$1" -I -m venv --system-site-packages "$venv"
    else
        "$1" -I -m venv "$venv"
    fi
}

# find_python: sets `python`.
find_python() {
    for python in $pythons; do
        if works "$python"; then return 0; fi
    done
    return 1
}

get_python() {
    if is_termux; then
        if ! find_python || ! "$python" -I -c 'import cryptography' >/dev/null 2>&1; then
            say "to be installed with pkg: python python-cryptography, and what they need"
            agreed "Install these packages?" ||
                fail "It needs them: pkg install python python-cryptography"
            pkg install -y python python-cryptography >"$setup_log" 2>&1 ||
                { tail -n 15 "$setup_log" >&2; fail "pkg install python python-cryptography failed"; }
        fi
        find_python && return 0
    else
        find_python && return 0
        if has_apt; then
            apt_install python3 python3-venv || {
                if [ "$?" != 125 ]; then tail -n 5 "$setup_log" >&2; fi
                fail "Run as root: apt install python3 python3-venv"
            }
            find_python && return 0
        fi
    fi
    fail "Python $oldest to 3.14 with its venv module is needed; install it and try again."
}

# quoted WORD: as it is typed into a shell.
quoted() {
    case $1 in
    *[!A-Za-z0-9/._-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf %s "$1" ;;
    esac
}

# ours: may we write the environment? Says what to do if not.
ours() {
    if mkdir -p "$venv" 2>/dev/null && [ -w "$venv" ] &&
        { ! [ -e "$venv/.lock" ] || [ -w "$venv/.lock" ]; }; then
        return 0
    fi
    if [ -O "$root" ] && [ -d "$venv" ]; then
        me=$(id -un 2>/dev/null) || me=$(id -u)
        fail "$venv has to be set up anew, and is not yours." \
            "Make it yours: sudo chown -R $me $(quoted "$venv")"
    fi
    fail "$venv has to be set up, and is not yours to write." \
        "Run it as its owner, or name a folder of yours: VPNSHARE_VENV=FOLDER $(quoted "$0")"
}

# give_back: what root makes in a folder of somebody's is theirs, or they could not renew it.
give_back() {
    case $venv in
    "$root"/*) ;;
    *) return 0 ;;
    esac
    if [ "$(id -u)" = 0 ] && ! [ -O "$root" ]; then
        chown -R -h "$(stat -c %u:%g "$root")" "$venv"
    fi
}

# take_turn: hold the set-up's lock on descriptor 9, or on a folder where there is no flock.
take_turn() {
    ours
    trap give_back EXIT
    exec 9>"$venv/.lock"
    if command -v flock >/dev/null 2>&1; then
        flock -n 9 || { say "another set-up is running; waiting for it"; flock 9; }
        return 0
    fi
    nameless=0
    until mkdir "$venv/.turn" 2>/dev/null; do
        holder=$(cat "$venv/.turn/pid" 2>/dev/null || true)
        if [ -z "$holder" ]; then nameless=$((nameless + 1)); fi
        if [ "$nameless" -gt 10 ] || { [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; }; then
            rm -rf "$venv/.turn"
            nameless=0
        else
            sleep 1
        fi
    done
    echo "$$" >"$venv/.turn/pid"
}

end_turn() {
    give_back
    trap - EXIT
    rm -rf "$venv/.turn"
    exec 9>&-
}

# pip_install ARGUMENT...: with a line of progress where a person watches.
pip_install() {
    {
        code=0
        "$venv/bin/python" -I -m pip install --disable-pip-version-check --no-input \
            --no-deps --progress-bar off "$@" 2>&1 9>&- || code=$?
        echo "exit $code"
    } | {
        code=1
        while IFS= read -r line; do
            case $line in
            "exit "*) code=${line#exit } ;;
            *)
                printf '%s\n' "$line" >>"$setup_log"
                if [ -t 2 ]; then
                    case $line in
                    "Collecting "* | "Installing collected"*)
                        printf '\r\033[Kvpnshare: %.60s' "$line" >&2
                        ;;
                    esac
                fi
                ;;
            esac
        done
        if [ -t 2 ]; then printf '\r\033[K' >&2; fi
        exit "$code"
    }
}

# pip_lock NAME...: what stands in these lock files (scripts/lock), and nothing else. Wheels
# only: what is built runs code, and fetches what no lock file names.
pip_lock() {
    for name; do
        set -- "$@" -r "$root/requirements/$name.txt"
        shift
    done
    if [ -n "$wheels" ]; then set -- --no-index --find-links "$wheels" "$@"; fi
    pip_install --require-hashes --only-binary :all: "$@"
}

# install_packages run|dev: what the lock files say. The project itself is run where it lies.
# What is good to have (discovery; names of hosts; USB; pytun, without which the client opens the
# device by itself)
# is left out where it has no wheel for this system.
install_packages() {
    if [ "$1" = dev ]; then set -- run build dev; else set -- run; fi
    if is_termux; then
        pip_lock "$@" # cryptography is Termux's
        return
    fi
    set -- native "$@"
    extras="discovery names usb"
    if [ "$(uname -m)" = x86_64 ]; then extras="discovery names usb client"; fi
    # shellcheck disable=SC2086  # a list of words
    until pip_lock $extras "$@"; do
        lacking=$(without_wheel)
        left=
        for extra in $extras; do
            grep -q "^$lacking==" "$root/requirements/$extra.txt" || left="$left $extra"
        done
        if [ -z "$lacking" ] || [ "${left# }" = "$extras" ]; then return 1; fi
        extras=${left# }
    done
}

# without_wheel: the package that pip has looked for in vain, with an index to look in.
without_wheel() {
    if grep -q "connection broken" "$setup_log"; then return 0; fi
    sed -n 's/.*No matching distribution found for \([A-Za-z0-9._-]*\)==.*/\1/p' "$setup_log" |
        tail -n 1
}

# name_project: the clone on the environment's path, and the command among its programs.
name_project() {
    "$venv/bin/python" -I - "$root" <<'END'
import shlex
import sys
import sysconfig
from pathlib import Path

root, bin = sys.argv[1], Path(sysconfig.get_path("scripts"))
Path(sysconfig.get_path("purelib"), "vpnshare.pth").write_text(f"{root}\n")
words = [str(bin / "python"), "-I", f"{root}/services/start.py", "cli.main"]
(bin / "vpnshare").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
(bin / "vpnshare").chmod(0o755)
END
}

# install_oracles: other programs' WireGuard for the tests to compare with. It lies beside the
# environment's packages, because it has a package of the same name as a room of ours.
install_oracles() {
    if [ ! -d "$venv/oracles" ]; then
        pip_install --require-hashes --only-binary :all: --target "$venv/oracles" \
            -r "$root/requirements/oracles.txt" ||
            say "wireguard-protocol could not be installed: tests skip it"
    fi
}

# newer STAMP: was it made after the last change of what is installed?
newer() {
    for file in "$root/pyproject.toml" "$root"/requirements/*.txt; do
        [ "$1" -nt "$file" ] || return 1
    done
}

# is_ready STAMP: was this set-up finished, for this clone, after its last change?
is_ready() {
    newer "$1" && [ -x "$venv/bin/python" ] || return 1
    made_for=
    read -r made_for <"$1" || return 1
    [ "$made_for" = "$root" ]
}

# make_environment run|dev: create or repair the environment; returns when it is ready.
make_environment() {
    kind=$1
    stamp=$venv/.ready
    if [ "$kind" = dev ]; then stamp=$venv/.ready-dev; fi
    take_turn
    if is_ready "$stamp"; then
        end_turn # someone else's set-up was what we waited for
        return 0
    fi
    : >"$setup_log"
    if [ -e "$venv/.incomplete" ] || ! "$venv/bin/python" -I -m pip --version >/dev/null 2>&1; then
        get_python
        say "setting up once, in $venv ($("$python" --version 2>&1))"
        find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock ! -name .turn ! -name setup.log \
            -exec rm -rf {} +
        : >"$venv/.incomplete"
        make_venv "$python" >>"$setup_log" 2>&1 ||
            { tail -n 5 "$setup_log" >&2; fail "The environment could not be made in $venv."; }
    fi
    : >"$venv/.incomplete"
    say "installing the Python packages it needs, by the hashes in requirements/"
    installed=
    if install_packages "$kind"; then
        installed=yes
    elif [ -n "$wheels" ] && ! grep -q "DO NOT MATCH THE HASHES" "$setup_log"; then
        say "this bundle is not for $("$venv/bin/python" --version 2>&1) on $(uname -m):" \
            "fetching the packages instead"
        wheels=
        if install_packages "$kind"; then installed=yes; fi
    fi
    if [ -z "$installed" ]; then
        # A pip that ended by itself left nothing half-done.
        rm -f "$venv/.incomplete"
        if grep -q "connection broken" "$setup_log"; then
            say "The packages could not be fetched: is there a network? Log: $setup_log"
            fail "Without one: make a bundle where there is one (vpnshare bundle), and carry it here."
        fi
        tail -n 15 "$setup_log" >&2
        if grep -q "DO NOT MATCH THE HASHES" "$setup_log"; then
            fail "A package is not the one that the lock file names; nothing of it was run."
        fi
        if grep -q "No matching distribution" "$setup_log"; then
            fail "A package has no ready-made wheel for this system ($(uname -m))."
        fi
        fail "The packages could not be installed. Log: $setup_log"
    fi
    name_project || fail "The environment in $venv could not be finished."
    if [ "$kind" = dev ]; then install_oracles; fi
    printf '%s\n' "$root" >"$stamp"
    if [ "$kind" = dev ]; then printf '%s\n' "$root" >"$venv/.ready"; fi
    rm -f "$venv/.incomplete"
    end_turn
    say "ready"
}
