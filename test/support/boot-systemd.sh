#!/bin/sh
# Boots a machine of its own: systemd as process 1, in namespaces that `unshare` has made, with the host's programs and nothing of the host's units, and
# in a control group of its own. It writes into memory alone, and is gone with its last process. Usage, by systemd-machine.ts:
#
#   unshare --pid --fork --mount --net --uts --ipc --kill-child boot-systemd.sh DIRECTORY CGROUP BUN CHECKOUT
#
# DIRECTORY: an empty one, where things are put together. CGROUP: the directory of the control group. BUN, CHECKOUT: what is installed in the machine.
set -e
directory=$1 cgroup=$2 bun=$3 checkout=$4

if [ "$directory" = booting ]; then
  # In a namespace for control groups: what is mounted now begins at ours.
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=bunnel-test \
    /lib/systemd/systemd --system --unit=machine.target --show-status=0 --log-target=console --log-level=warning
fi

echo 0 >"$cgroup/cgroup.procs"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$directory"
root=$directory/root
mkdir "$directory/upper" "$directory/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$root"

mount -t proc proc "$root/proc"
# These are the host's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for at in dev/shm run tmp var/tmp var/log; do
  mkdir -p "$root/$at"
  mount -t tmpfs -o mode=755 tmpfs "$root/$at"
done
chmod 1777 "$root/dev/shm" "$root/tmp" "$root/var/tmp"
ip link set lo up

# The machine starts the journal and then nothing. What bunnel.service waits for stays, without what the host's installation starts with it.
rm -rf "$root/etc/systemd/system" "$root/etc/systemd/system-generators" "$root/usr/lib/systemd/system-generators"
rm -rf "$root"/usr/lib/systemd/system/*.wants "$root/usr/lib/systemd/system/systemd-journald-audit.socket" "$root"/etc/systemd/journald.conf*
units=$root/etc/systemd/system
mkdir -p "$units"
printf '[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service\n' >"$units/machine.target"
: >"$root/etc/fstab"
echo machine >"$root/etc/hostname"
[ -s "$root/etc/machine-id" ] || echo 00000000000000000000000000000001 >"$root/etc/machine-id"

# bunnel, as an operator installs it.
mkdir -p "$root/usr/lib/bunnel" "$root/etc/bunnel"
: >"$root/usr/bin/bun"
mount --bind "$bun" "$root/usr/bin/bun"
cp "$checkout/package.json" "$root/usr/lib/bunnel/"
for part in src node_modules; do
  mkdir "$root/usr/lib/bunnel/$part"
  mount --bind "$(readlink -f "$checkout/$part")" "$root/usr/lib/bunnel/$part"
done
ln -sf ../lib/bunnel/src/main.ts "$root/usr/bin/bunnel"
cp "$checkout/config/bunnel.service" "$checkout/config/bunnel.socket" "$units/"
echo bunnel:x:900:900::/nonexistent:/usr/sbin/nologin >>"$root/etc/passwd"
echo bunnel:x:900: >>"$root/etc/group"

cp "$0" "$root/run/boot"
cd "$root"
mkdir .old
pivot_root . .old
umount -l .old
rmdir .old
exec unshare --cgroup sh /run/boot booting
