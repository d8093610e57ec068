#!/bin/bash
# Runs the tests on another release of Debian than this machine's, with its sshd,
# su, sudo, shells and clients, on this machine's kernel:
#
#	try-release.sh bookworm | trixie | sid
#
# "make test" is run there; with RUN=REGEXP only those tests of e2e, or of the
# packages PKG. What the jails have inside stays the Debian 12 of build/trees.
#
# Root is needed, and a Debian mirror. The release's tree is made in build/release by
# mmdebstrap, once; what packaging/deps.sh installs in it stays there, too. The
# tree is entered in mount and pid namespaces of its own, with this machine's Go, its
# module cache, network, devices and cgroups; all that runs or is mounted ends with it.
set -euo pipefail
umask 022 # others read what is made here
top=$(cd "$(dirname "$0")/../.." && pwd -P)
dir=$top/build/release
export PATH=$PATH:/usr/sbin:/sbin

# enter ROOT makes ROOT the root directory, as PID 1 of a pid namespace.
enter() {
	local root=$1
	cd "$root"
	mount --bind . .
	cd "$root" # onto what was just mounted
	mount -t proc -o nosuid,nodev,noexec proc proc
	mount --rbind /dev dev
	mount --rbind /sys sys
	mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
	mkdir -p jail usr/local/go go/pkg/mod var/cache/go-build
	mount --bind "$top" jail
	mount -o remount,bind,ro jail
	mount --bind "$top/build/trees" jail/build/trees
	mount --bind "$(go env GOROOT)" usr/local/go
	mount -o remount,bind,ro usr/local/go
	mount --bind "$(go env GOMODCACHE)" go/pkg/mod
	mount -o remount,bind,ro go/pkg/mod
	mount --bind "$(go env GOCACHE)" var/cache/go-build
	# pivot_root, for there are no user namespaces in a chroot
	# (user_namespaces(7)).
	pivot_root . mnt
	# shellcheck disable=SC2016 # the shell inside is to expand it
	exec env -i PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
		GOMODCACHE=/go/pkg/mod GOCACHE=/var/cache/go-build GOPROXY=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false \
		CGO_ENABLED=0 JAIL_TEST_MUST_RUN=1 RUN="${RUN:-}" PKG="${PKG:-}" /bin/bash -ec '
			cd /jail
			umount -l /mnt
			status=0 # no exec: nothing that is tested expects PID 1 for its parent
			if [ -z "$RUN" ]; then
				make test || status=$?
			else
				make -s deps
				go test -count=1 -timeout=60m -v ${PKG:-./e2e} -run "$RUN" || status=$?
			fi
			exit $status
		'
}

if [ "${1:-}" = enter ]; then
	enter "$2"
fi

suite=${1:-}
case $suite in
bookworm | trixie) options=() ;;
# What a mirror has of it can be older than the week it is good for; the
# signature is looked at all the same.
sid) options=(--aptopt='Acquire::Check-Valid-Until "false"') ;;
*) echo "usage: try-release.sh bookworm | trixie | sid" >&2; exit 64 ;;
esac
[ "$(id -u)" = 0 ] || { echo "try-release: root is needed" >&2; exit 1; }
root=$dir/$suite
mkdir -p "$dir"
chmod 711 "$dir" # apt fetches as a user of its own
exec 9>"$dir/$suite.lock"
flock -n 9 || { echo "try-release: it runs already" >&2; exit 1; }
make -s -C "$top" trees
if [ ! -d "$root" ]; then
	echo "making $root, once (mmdebstrap, some minutes)" >&2
	rm -rf --one-file-system "$root.new"
	mmdebstrap --quiet --variant=minbase --include=make,ca-certificates "${options[@]}" "$suite" "$root.new" http://deb.debian.org/debian
	mv "$root.new" "$root"
fi
rm -rf --one-file-system "${root:?}"/tmp/* "$root"/var/tmp/* # of one that was killed
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
echo "$suite, Debian $(cat "$root/etc/debian_version")"

# As a job, which ignores no signal (a command in the background would), and whose
# end is the end of all its children.
set -m
unshare --mount --propagation private --pid --fork --kill-child "$0" enter "$root" </dev/null 9>&- &
child=$!
set +m
trap 'kill -KILL $child; exit 1' HUP INT TERM
wait $child
