# Starts a container's process in the mount namespace that `unshare` has made for it.
#
# Arguments: ROOT (an empty directory) IMAGE-FILE WORKING-DIRECTORY ro|rw UID GID --groups=GIDS|--clear-groups COUNT,
# then COUNT times SOURCE MOUNT-PATH ro|rw, then the command.
#
# The container's root is new and in memory: the system's programs, libraries and certificates of public authorities
# (read-only), the image's file under /image, the mounts, and nothing else of this machine. No capability is left, and none can be regained.
set -eu
root=$1 image=$2 directory=$3 access=$4 uid=$5 gid=$6 groups=$7 mounts=$8
shift 8
mount -t tmpfs -o mode=755,size=64m tmpfs "$root"
mkdir "$root/etc"
for name in usr bin sbin lib lib32 lib64 etc/ssl; do
  if [ -L "/$name" ]; then
    cp -P "/$name" "$root/$name"
  elif [ -d "/$name" ]; then
    mkdir "$root/$name"
    mount --bind "/$name" "$root/$name"
    mount -o remount,bind,ro "$root/$name"
  fi
done
for name in proc dev run var image; do mkdir "$root/$name"; done
mkdir -m 1777 "$root/tmp"
# Relative: the mounts below are made from outside of the root.
ln -s ../run "$root/var/run"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
for name in hosts resolv.conf nsswitch.conf ld.so.cache; do
  if [ -e "/etc/$name" ]; then cat "/etc/$name" > "$root/etc/$name"; fi
done
: > "$root/image/${image##*/}"
mount --bind "$image" "$root/image/${image##*/}"
while [ "$mounts" -gt 0 ]; do
  if [ -d "$1" ]; then
    mkdir -p "$root$2"
  else
    mkdir -p "$root${2%/*}"
    : > "$root$2"
  fi
  mount --bind "$1" "$root$2"
  if [ "$3" = ro ]; then mount -o remount,bind,ro "$root$2"; fi
  shift 3
  mounts=$((mounts - 1))
done
mkdir -p "$root$directory"
if [ "$access" = ro ]; then mount -o remount,ro "$root"; fi
# The death signal comes last: a change of the user would clear it.
exec chroot "$root" setpriv --reuid="$uid" --regid="$gid" "$groups" --no-new-privs --bounding-set=-all --inh-caps=-all \
  --pdeathsig=KILL -- sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
