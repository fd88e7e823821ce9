#!/bin/sh
# inroot.sh ROOT STATE COMMAND...   Run COMMAND in the root directory of another Debian release.
#
# Called by inside.sh, in the machine's own mount namespace: what is mounted here vanishes with COMMAND,
# and ROOT itself can be removed at any time. Users, homes, devices and the state are this machine's.
set -eu
root=$1 state=$2
shift 2

for each in /proc /sys /dev /run /tmp /home "$state"; do
    mkdir -p "$root$each"
    mount --rbind "$each" "$root$each"
done
for each in /etc/hosts /etc/passwd /etc/group /etc/shadow /usr/bin/python3.*[0-9]; do
    [ -e "$each" ] || continue
    [ -e "$root$each" ] || : >"$root$each"
    mount --bind "$each" "$root$each"
done
# The Python of the visualization software, where the other release has another version.
for each in /etc/slurm /usr/lib/python3.*/; do
    [ -e "$each" ] || continue
    mkdir -p "$root$each"
    mount --bind "$each" "$root$each"
done
cd /
exec chroot "$root" "$@"
