#!/bin/bash
# Turns the namespaces that it runs in into a machine of its own with systemd: / is a copy-on-write view of this one, /var/lib is empty and lies below FOLDER.
# Usage: machine-boot.sh FOLDER, as the first process of new mount, pid, cgroup, network, uts and ipc namespaces.
set -eu
folder=$1
root=$folder/root
mkdir "$root" "$folder/lib"
# The changes go with the mount.
mkdir "$folder/changes"
mount -t tmpfs -o mode=755 changes "$folder/changes"
mkdir "$folder/changes/upper" "$folder/changes/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes/upper,workdir=$folder/changes/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
# Read-only, as containers have them: what systemd sets up at a start is not for the kernel of both.
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero full random urandom tty fuse; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
touch "$root/dev/console"
for place in dev/shm run tmp; do mount -t tmpfs "${place#*/}" "$root/$place"; done
mount --bind "$folder/lib" "$root/var/lib"
# The project itself, where it lies below one of these; read-only, for a machine that starts empties its /tmp.
project=$(cd "$(dirname "$0")/../.." && pwd)
if [ ! -e "$root$project/gear" ]; then
  mkdir -p "$root$project"
  mount --bind "$project" "$root$project"
  mount -o remount,bind,ro "$root$project"
fi
# Where stateOf of machine.ts looks.
mkdir "$root/run/changes"
mount --bind "$folder/changes/upper" "$root/run/changes"
ip link set lo up
mkdir "$root/run/outside"
cd "$root"
pivot_root . run/outside
umount -l /run/outside
# As on any machine with systemd.
mount --make-rshared /
printf '%s\n' "$(tr -d - </proc/sys/kernel/random/uuid)" >/etc/machine-id
# Services of the machine that it is a view of are not to start here.
rm -rf /etc/systemd/system /etc/gear /opt/gear /etc/docker /etc/containerd
mkdir -p /etc/systemd/system
exec env -i container=gear-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
