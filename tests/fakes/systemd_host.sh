#!/bin/bash
# A machine with systemd, in namespaces of its own: the files of this one with an empty layer
# above them, its own /run, /tmp, processes and network. Nothing of it is left afterwards.
#
#   systemd_host.sh FOLDER [SCRIPT]     FOLDER is empty; SCRIPT runs before systemd, as its root
#   nsenter --all --target $(cat FOLDER/pid) COMMAND
#
# Needs root and cgroup2. Ends with its standard input.
set -eu
folder=$1
if [ "${INSIDE:-}" = "" ]; then
    unified=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET)
    group=$unified/vpnshare-test-$$
    mkdir "$group"
    (
        echo $BASHPID >"$group/cgroup.procs"
        INSIDE=1 exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net \
            --propagation private "$0" "$@" </dev/null
    ) &
    child=$!
    until [ -s "$folder/pid" ] || ! kill -0 $child 2>/dev/null; do
        cat "/proc/$child/task/$child/children" >"$folder/pid" 2>/dev/null || true
        sleep 0.02
    done
    read -r _ || true
    kill -KILL $child 2>/dev/null || true
    wait $child || true
    # Empty once the last of its processes has gone.
    for _ in $(seq 100); do
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        [ -e "$group" ] || exit 0
        sleep 0.05
    done
    exit 1
fi
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
root=$folder/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
# What is the kernel's is every namespace's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
chmod 1777 "$root/tmp"
for name in null zero full random urandom tty net/tun; do
    [ -e "/dev/$name" ] || continue
    mkdir -p "$(dirname "$root/dev/$name")"
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
# Of the machine's own units none starts.
rm -rf "$root"/etc/systemd/system/* "$root"/etc/systemd/user/*
units=$root/etc/systemd/system
ln -s /lib/systemd/system/basic.target "$units/default.target"
for name in systemd-sysctl systemd-modules-load systemd-remount-fs systemd-udevd; do
    ln -s /dev/null "$units/$name.service"
done
ip link set lo up
[ $# -lt 2 ] || ROOT=$root sh -eu "$2"
cd "$root"
mkdir before
pivot_root . before
umount -l /before
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --log-target=console --log-level=notice --show-status=no
