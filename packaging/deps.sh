#!/bin/bash
# Installs the Debian packages that a make target needs and that are not there:
#
#	deps.sh test | demo | race | systemd | deb | rpm | package | vm | arm64 | arm64-vm
#
# Nothing is done, and no root needed, when nothing is missing. An sshd that is
# installed by this is not started, neither now nor at the next boot.
set -euo pipefail
umask 022 # others read what is made here

# COMMAND:PACKAGE, of Debian 12.
case ${1:-} in
test)
	wanted=(
		sshd:openssh-server ssh:openssh-client ssh-keygen:openssh-client sftp:openssh-client scp:openssh-client
		mmdebstrap:mmdebstrap busybox:busybox-static
		su:util-linux runuser:util-linux nsenter:util-linux unshare:util-linux script:bsdutils
		login:login sudo:sudo newuidmap:uidmap /lib/x86_64-linux-gnu/libnss_systemd.so.2:libnss-systemd
		ps:procps tmux:tmux strace:strace expect:expect mandoc:mandoc
		ssh-agent:openssh-client xauth:xauth Xvfb:xvfb xdpyinfo:x11-utils
		rsync:rsync git:git borg:borgbackup ansible:ansible-core mosh:mosh sshfs:sshfs curl:curl
		plink:putty-tools dbclient:dropbear-bin /usr/lib/python3/dist-packages/paramiko:python3-paramiko
		emacs:emacs-nox rclone:rclone restic:restic unison:unison duplicity:duplicity /usr/lib/python3/dist-packages/pexpect:python3-pexpect lftp:lftp hg:mercurial svn:subversion
		git-annex:git-annex /usr/lib/python3/dist-packages/asyncssh:python3-asyncssh
		/usr/share/doc/ruby-net-ssh:ruby-net-ssh /usr/share/doc/ruby-net-sftp:ruby-net-sftp
		java:default-jre-headless javac:default-jdk-headless /usr/share/java/jsch.jar:libjsch-java node:nodejs npm:npm
		skopeo:skopeo musl-gcc:musl-tools rpmbuild:rpm xz:xz-utils zstd:zstd
		zsh:zsh fish:fish vim:vim nano:nano less:less man:man-db php:php-cli ruby:ruby gcc:gcc make:make gdb:gdb screen:screen
		ed:ed bc:bc jq:jq file:file unzip:unzip cpio:cpio bzip2:bzip2 patch:patch g++:g++ ip:iproute2 mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs mkfs.btrfs:btrfs-progs
		wget:wget openssl:openssl gpg:gpg zip:zip sqlite3:sqlite3 psql:postgresql-client crontab:cron
		/usr/lib/libnss_extrausers.so.2:libnss-extrausers qemu-img:qemu-utils /usr/share/doc/qemu-block-extra:qemu-block-extra
	)
	;;
demo)
	wanted=(
		sshd:openssh-server ssh:openssh-client ssh-keygen:openssh-client mmdebstrap:mmdebstrap
		busybox:busybox-static su:util-linux nsenter:util-linux ps:procps expect:expect
	)
	;;
race) wanted=(gcc:gcc) ;;
arm64) wanted=(qemu-aarch64:qemu-user) ;;
arm64-vm) wanted=(qemu-system-aarch64:qemu-system-arm mmdebstrap:mmdebstrap busybox:busybox-static ssh-keygen:openssh-client) ;;
systemd) wanted=(systemd-nspawn:systemd-container mmdebstrap:mmdebstrap busybox:busybox-static ssh-keygen:openssh-client) ;;
deb) wanted=(dh:debhelper dpkg-buildpackage:dpkg-dev) ;;
rpm) wanted=(rpmbuild:rpm) ;;
package) wanted=(
	dh:debhelper dpkg-buildpackage:dpkg-dev lintian:lintian rpmbuild:rpm rpmlint:rpmlint
	systemd-nspawn:systemd-container mmdebstrap:mmdebstrap busybox:busybox-static ssh:openssh-client cpio:cpio expect:expect
	/usr/share/selinux/devel/Makefile:selinux-policy-dev
	qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs mkswap:util-linux modprobe:kmod
) ;;
vm) wanted=(
	qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap busybox:busybox-static ssh-keygen:openssh-client
	mke2fs:e2fsprogs mkswap:util-linux modprobe:kmod mkfs.xfs:xfsprogs
) ;;
*)
	echo "usage: deps.sh test | demo | race | systemd | deb | rpm | package | vm | arm64 | arm64-vm" >&2
	exit 64
	;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in "${wanted[@]}"; do
	command=${pair%%:*} package=${pair#*:}
	found=$(command -v "$command") || found=
	case $command in
	busybox) # the one from the package busybox needs libraries that a small tree has not
		[ -n "$found" ] && ldd "$found" >/dev/null 2>&1 && found= ;;
	/*) [ -e "$command" ] && found=$command ;; # no command, but a file
	gcc) [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev) ;;
	esac
	[ -n "$found" ] || missing+=("$package")
done

# The one client that is no Debian package, for the tests only, below build.
modules() {
	[ "$1" = test ] || return 0
	local at=build/npm/node_modules/ssh2 version=1.17.0
	grep -qs "\"version\": \"$version\"" $at/package.json && return 0
	echo "deps: installing ssh2 $version for node.js in build/npm"
	npm install --prefix build/npm --silent --no-fund --no-audit --ignore-scripts "ssh2@$version"
}
cd "$(dirname "$0")/.."
[ ${#missing[@]} -gt 0 ] || { modules "$1"; exit; }
mapfile -t missing <<<"$(printf '%s\n' "${missing[@]}" | sort -u)"

hint="install them by hand: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
	echo "deps: packages are missing and this is no Debian; $hint" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps: packages are missing and only root can install them; $hint" >&2
	exit 1
fi

# The packages' scripts ask this before they start a service (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -qq -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
log=$(mktemp)
# The lists of packages may be missing or stale; that shows in a failure.
if ! install && ! { apt-get update -qq && install; }; then
	cat "$log" >&2
	rm -f "$log"
	exit 1
fi
rm -f "$log"
case " ${missing[*]} " in
*' openssh-server '*)
	if command -v systemctl >/dev/null; then
		systemctl --quiet disable ssh.service
	elif command -v deb-systemd-helper >/dev/null; then
		DPKG_MAINTSCRIPT_PACKAGE=openssh-server deb-systemd-helper disable ssh.service >/dev/null || :
	fi
	echo "deps: openssh-server is installed but not started, nor enabled"
	;;
esac
modules "$1"
