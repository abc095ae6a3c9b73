#!/bin/bash
# `make check-releases`: other releases of Debian than the one that everything is tested on. For
# each, a root of its own is made by debootstrap, and what is committed here is cloned into it; then
# the README's two commands are run there. EBB_RELEASES names them (default "bullseye trixie"),
# TMPDIR is where the roots are, of some 3 GB each. Needs root and debootstrap.
set -euo pipefail

releases=${EBB_RELEASES:-bullseye trixie}
source=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "check-releases: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "this needs root, to make the roots"
command -v debootstrap >/dev/null || fail "debootstrap is missing (Debian: debootstrap)"
command -v git >/dev/null || fail "git is missing (Debian: git)"

# In a name space of mounts, so that none is left whatever happens.
if [ -z "${EBB_RELEASES_INSIDE:-}" ]; then
    EBB_RELEASES_INSIDE=1 exec unshare --mount --propagation private bash "$0"
fi

work=$(mktemp -d)
trap 'umount --recursive "$work"/*/dev "$work"/*/sys "$work"/*/proc 2>/dev/null || true
    rm -rf --one-file-system "$work"' EXIT

# enter ROOT COMMAND…: in the clone there.
enter() {
    local root=$1
    shift
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        sh -c 'cd /root/ebbmalloc && exec "$@"' sh "$@" </dev/null
}

failed=
for release in $releases; do
    root=$work/$release
    echo "check-releases: $release: making a root"
    debootstrap --variant=minbase --include=ca-certificates "$release" "$root" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2 && fail "debootstrap $release failed"; }
    cp /etc/resolv.conf "$root/etc/"
    mount -t proc proc "$root/proc"
    mount -t sysfs sys "$root/sys"
    mount --rbind /dev "$root/dev"
    git clone -q --no-hardlinks "$source" "$root/root/ebbmalloc"
    enter "$root" ./quickstart || failed="$failed $release (./quickstart)"
    enter "$root" ./quickstart check || failed="$failed $release (./quickstart check)"
done
[ -z "$failed" ] || fail "failed:$failed"
