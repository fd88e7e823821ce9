#!/bin/sh
# inside.sh NODE STATE COMMAND...   Become the machine NODE, then run COMMAND.
#
# The caller has already entered NODE's network namespace and a fresh UTS and mount namespace; what is
# mounted here is seen by COMMAND and its children only. `ip netns exec` would do some of this, but it
# remounts /sys and hides /sys/fs/cgroup, without which slurmd 22.05 does not start.
set -eu
node=$1 state=$2
shift 2

# In a chroot "/" need not be a mount point; there the parts below are what can be made private.
mount --make-rprivate / 2>/dev/null || mount --make-rprivate /sys 2>/dev/null || true

hostname "$node"
mount --bind "$state/slurm/hosts" /etc/hosts
mount --bind "$state/slurm" /etc/slurm
if [ -d /etc/sudoers.d ]; then mount --bind "$state/sudoers.d" /etc/sudoers.d; fi
for home in "$state"/home/*; do
    mount --bind "$home" "$(getent passwd "${home##*/}" | cut -d: -f6)"
done
# An empty directory that is a mount point: slurmd looks for cgroups even when told not to use them, and
# would talk to systemd about them on a machine that has it.
if [ -d /sys/fs/cgroup ]; then mount -t tmpfs none /sys/fs/cgroup; fi

cd /
exec "$@"
