#!/bin/bash
# Tries for real what not every machine can show: a Debian 12 with systemd is
# booted in a virtual machine, on its own kernel and on a newer one, what "make
# install" installs is installed there, inside.sh tries to use the machine up, and
# the attacks of e2e are made, of which some need 32-bit system calls. One line is
# printed for every fact.
#
#	try-vm.sh [network] [6.1 | backports]...
#
# With network it is about that alone: network.sh has the tests of it, and the machine
# boots a second time.
#
# Root is needed, for the owners of files, and nothing of this machine's cgroups,
# kernel or network. Everything is made in build/vm and removed again, but for
# the trees in build/trees. VM_LOG=FILE keeps the machine's console.
set -euo pipefail
umask 022 # others read what is made here
top=$(cd "$(dirname "$0")/../.." && pwd -P)
dir=$top/build/vm
root=$dir/root
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=packaging/demo/trees.sh
. "$top/packaging/demo/trees.sh"
# shellcheck source=packaging/vm/machine.sh
. "$top/packaging/vm/machine.sh"

# Seconds a machine may take from power on to power off, ten minutes where nobody else works.
bound=3600

[ "$(id -u)" = 0 ] || { echo "try-vm: root is needed" >&2; exit 1; }
"$top/packaging/deps.sh" vm

qemu='' shown=''
# What is run inside, and what becomes of a machine that is to boot again.
part=inside reboot=-no-reboot
# shellcheck disable=SC2317,SC2086 # it is a trap
finish() {
	local status=$?
	trap - EXIT
	[ -z "$shown" ] || kill "$shown" 2>/dev/null || :
	[ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || :
	wait || :
	if [ -f "$dir/console" ] && [ -n "${VM_LOG:-}" ]; then cp "$dir/console" "$VM_LOG"; fi
	rm -rf --one-file-system "$dir"
	exit $status
}

# machine makes the tree of the machine's disk.
machine() {
	local tree user name
	tree=$(kept vm --include=systemd,systemd-sysv,libpam-systemd,dbus,udev,openssh-server,openssh-client,procps)
	cp -a --reflink=auto "$tree" "$root"
	make -C "$top" -s install DESTDIR="$root"
	cp "$root/usr/share/doc/jail/examples/sshd_config.d/50-jail.conf" "$root/etc/ssh/sshd_config.d/"
	# jail-keys gives up after ten seconds, which can be too little for an emulated
	# processor; it is tried elsewhere.
	printf '%s\n' 'ListenAddress 127.0.0.1' 'Match Group jailed' 'AuthorizedKeysFile /etc/ssh/key.pub' 'AuthorizedKeysCommand none' 'Match User admin' 'AuthorizedKeysFile /etc/ssh/key.pub' 'Match all' \
		>"$root/etc/ssh/sshd_config.d/10-try.conf"
	ssh-keygen -q -t ed25519 -N '' -f "$root/root/id"
	install -m 644 "$root/root/id.pub" "$root/etc/ssh/key.pub"
	printf '%s\n' 'Host host' 'HostName 127.0.0.1' 'IdentityFile /root/id' 'StrictHostKeyChecking no' \
		'UserKnownHostsFile /dev/null' 'LogLevel ERROR' 'KexAlgorithms curve25519-sha256' 'Ciphers aes128-ctr' >"$root/root/ssh_config"
	chroot "$root" groupadd -g 61999 jailed
	chroot "$root" useradd -m -s /bin/sh admin # an account of the host
	mkdir -m 700 "$root/srv/jails"
	mkdir "$root/srv/jails/dead"
	for user in hog:61000 calm:61001 plain:61002 stuck:61003; do
		chroot "$root" useradd -K UID_MAX=61999 -u "${user#*:}" -G jailed -M -d /var/lib/jail/empty-home -s /usr/bin/jail-enter "${user%:*}"
		make_busybox "$root/srv/jails/${user%:*}" "${user#*:}" "$root/root/id.pub"
	done
	install -m 600 "$top/packaging/vm/jail.toml" "$root/etc/jail/jail.toml"
	install -m 755 "$top/packaging/vm/$part.sh" "$root/root/inside.sh"
	install -m 644 "$top/packaging/vm/facts.sh" "$root/root/facts.sh"
	install -m 644 "$top/packaging/vm/try.service" "$root/etc/systemd/system/try.service"
	chroot "$root" systemctl --quiet enable jail.service try.service
	chroot "$root" systemctl --quiet mask systemd-timesyncd.service getty@tty1.service serial-getty@ttyS0.service \
		apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service
	echo vm >"$root/etc/hostname"
	rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists"
	# The kernel's requests for modules; there is no kmod.
	cp "$(command -v busybox)" "$root/bin/busybox"
	ln -s /bin/busybox "$root/sbin/modprobe"
	[ -e "$root/usr/sbin/ip" ] || ln -s /bin/busybox "$root/sbin/ip"
	# Tests in Go, and what they start from.
	make -C "$top" -s trees
	mkdir -p "$root/root/tests/bin" "$root/root/tests/trees"
	(
		cd "$top"
		export CGO_ENABLED=0
		go test -c -o "$root/root/tests/" ./e2e
		[ $part = network ] || go test -c -o "$root/root/tests/" ./internal/launch
		go build -o "$root/root/tests/bin/" ./e2e/attack ./e2e/testdata/argv
	)
	cp "$top"/bin/jail-* "$root/root/tests/bin/"
	for name in debian busybox services; do cp -a --reflink=auto "$top/build/trees/$name"{,.recipe} "$root/root/tests/trees/"; done
}

# boot KERNEL runs the machine and shows what inside.sh says. The disk is not
# changed by it. Its clock counts instructions, eight nanoseconds each, and skips what
# it sleeps: so no deadline inside depends on how busy this machine is.
# CMPXCHG16B, which newer kernels use, loses the flags in qemu 7.2 with -icount.
boot() {
	echo "Linux of $1"
	: >"$dir/results"
	tail -f -n +1 --pid=$$ "$dir/results" &
	shown=$!
	# shellcheck disable=SC2086 # $reboot is one word, or none
	nice -n 10 qemu-system-x86_64 -accel tcg,tb-size=128 -icount shift=3,sleep=off -rtc clock=vm -cpu max,cx16=off -smp 1 -m 768 -nodefaults $reboot -display none \
		-kernel "$dir/linux-$1" -initrd "$dir/initrd-$1" -append "console=ttyS0 root=/dev/vda panic=-1 quiet systemd.show_status=0 random.trust_cpu=on ia32_emulation=on" \
		-drive "file=$dir/disk,format=raw,if=virtio,snapshot=on" -drive "file=$dir/swap,format=raw,if=virtio,snapshot=on" \
		-drive "file=$dir/ext4,format=raw,if=virtio,snapshot=on" -drive "file=$dir/xfs,format=raw,if=virtio,snapshot=on" \
		-serial "file:$dir/console" -serial "file:$dir/results" &
	qemu=$!
	local status=0 left=$bound
	while kill -0 $qemu 2>/dev/null && [ $((left -= 1)) -gt 0 ]; do
		sleep 1 &
		wait $! # so that a signal is heeded at once
	done
	[ $left -gt 0 ] || kill -KILL $qemu
	wait $qemu || status=$?
	qemu=''
	sleep 1
	kill $shown
	wait $shown 2>/dev/null || :
	shown=''
	if [ $status != 0 ] || ! grep -q '^END 0' "$dir/results"; then
		failed=1
		[ $left -gt 0 ] || echo "try-vm: the machine did not finish within $bound seconds" >&2
		echo "try-vm: something is wrong above; the end of the console:" >&2
		tail -n 40 "$dir/console" >&2
	fi
}

# In a function, so that bash has read the script to its end by now, and it may be
# edited while it runs.
main() {
	local name
	mkdir -p "$top/build"
	exec 9>"$top/build/vm.lock"
	flock -n 9 || { echo "try-vm: it runs already" >&2; exit 1; }
	trap finish EXIT
	trap 'exit 1' HUP INT TERM
	if [ "${1:-}" = network ]; then
		part=network reboot=''
		shift
		[ $# -gt 0 ] || set -- 6.1
	fi
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir"
	chmod 700 "$dir"
	machine
	for name in "$@"; do
		# shellcheck disable=SC2016 # mmdebstrap is to expand it
		case $name in
		6.1) kernel 6.1 --include=linux-image-cloud-amd64 ;;
		backports) kernel backports --include=linux-image-cloud-amd64/bookworm-backports \
			--setup-hook='echo "deb http://deb.debian.org/debian bookworm-backports main" >>"$1/etc/apt/sources.list"' ;;
		*) echo "try-vm: $name: network, 6.1 or backports" >&2; exit 64 ;;
		esac
	done
	image
	for name in ext4:'-O quota,project' xfs:; do
		truncate -s 400M "$dir/${name%%:*}"
		# shellcheck disable=SC2086 # options
		mkfs."${name%%:*}" -q ${name#*:} "$dir/${name%%:*}"
	done
	failed=0
	for name in "$@"; do boot "$name"; done
	[ $failed = 0 ]
}

main "${@:-6.1}"
exit
