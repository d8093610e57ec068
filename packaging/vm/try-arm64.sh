#!/bin/bash
# Shows once that all of it runs on arm64: a machine of that architecture is emulated,
# on Linux 6.12, sshd and "jail-init serve" are started in it, somebody logs in, and
# the tests of the filter and of sys.Fork are made on its kernel. inside-arm64.sh
# prints one line for every fact. It takes two minutes.
#
# Root is needed, for the owners of files. Everything is made in build/arm64-vm and
# removed again, but for the trees in build/trees. VM_LOG=FILE keeps the console.
set -euo pipefail
umask 022 # others read what is made here
top=$(cd "$(dirname "$0")/../.." && pwd -P)
dir=$top/build/arm64-vm
root=$dir/root
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=packaging/demo/trees.sh
. "$top/packaging/demo/trees.sh"

# Seconds from power on to power off.
bound=900

[ "$(id -u)" = 0 ] || { echo "try-arm64: root is needed" >&2; exit 1; }
"$top/packaging/deps.sh" arm64-vm

qemu=''
# shellcheck disable=SC2317,SC2086 # it is a trap
finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM # one is enough
	[ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || :
	wait || :
	if [ -f "$dir/console" ] && [ -n "${VM_LOG:-}" ]; then cp "$dir/console" "$VM_LOG"; fi
	rm -rf --one-file-system "$dir"
	exit $status
}

# machine makes the tree of the machine, which is unpacked into memory. Nothing of
# it can be executed here, so Debian's packages are unpacked and not configured.
machine() {
	local tree jail=$root/srv/jails/calm f
	tree=$(kept vm-arm64 --architectures=arm64 --variant=extract --include=openssh-server,openssh-client,busybox-static,bash)
	cp -a --reflink=auto "$tree" "$root"
	rm -rf "$root"/usr/share/{doc,man,locale,perl*} "$root"/usr/lib/aarch64-linux-gnu/perl* "$root"/var/{cache,lib}/apt
	mkdir -p "$root/usr/lib/jail" "$root/var/lib/jail/empty-home" "$root/etc/jail" "$root/root/tests"
	install -m 755 "$top"/build/arm64/jail-enter "$root/usr/bin/"
	install -m 755 "$top"/build/arm64/jail-init "$root/usr/sbin/"
	install -m 755 "$top"/build/arm64/jail-keys "$root/usr/lib/jail/"
	for f in pid1 sftp-server; do install -m 755 "$top/build/arm64/jail-$f" "$root/usr/lib/jail/$f"; done
	(
		cd "$top"
		export GOARCH=arm64 CGO_ENABLED=0
		for f in confine sys; do go test -c -o "$root/root/tests/$f.test" "./internal/$f"; done
		go build -o "$root/root/tests/" ./e2e/attack
	)

	mkdir -p "$jail"/{bin,dev,etc,home/work/.ssh,proc,root,run,sys,tmp,usr/bin,var/tmp}
	chmod 700 "$root/srv/jails"
	chmod 1777 "$jail/tmp" "$jail/var/tmp"
	cp "$root/bin/busybox" "$jail/bin/"
	for f in sh id uname cat grep kill tty sleep; do ln -s busybox "$jail/bin/$f"; done
	cp "$root/root/tests/attack" "$jail/usr/bin/"
	printf 'root:x:0:0:root:/root:/bin/sh\nwork:x:61001:61001::/home/work:/bin/sh\n' >"$jail/etc/passwd"
	printf 'root:x:0:\ntty:x:5:\nwork:x:61001:\n' >"$jail/etc/group"
	: >"$jail/etc/resolv.conf"
	ssh-keygen -q -t ed25519 -N '' -f "$root/root/id"
	cp "$root/root/id.pub" "$jail/home/work/.ssh/authorized_keys"
	chmod 700 "$jail/home/work/.ssh"
	chown -R 61001:61001 "$jail/home/work"

	printf '%s\n' 'root:x:0:0:root:/root:/bin/bash' 'sshd:x:100:65534::/run/sshd:/bin/false' 'nobody:x:65534:65534::/:/bin/false' \
		'calm:x:61001:61001::/var/lib/jail/empty-home:/usr/bin/jail-enter' >"$root/etc/passwd"
	printf '%s\n' 'root:*:19000:0:99999:7:::' 'sshd:*:19000:0:99999:7:::' 'calm:*:19000:0:99999:7:::' >"$root/etc/shadow"
	printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' 'calm:x:61001:' 'jailed:x:61999:calm' >"$root/etc/group"
	ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"
	printf '%s\n' 'UsePAM no' 'ListenAddress 127.0.0.1' 'Subsystem sftp /usr/lib/openssh/sftp-server' >"$root/etc/ssh/sshd_config"
	cat "$top/config/examples/sshd_config.d/50-jail.conf" >>"$root/etc/ssh/sshd_config"
	printf '%s\n' 'Host host' 'HostName 127.0.0.1' 'User calm' 'IdentityFile /root/id' 'StrictHostKeyChecking no' \
		'UserKnownHostsFile /dev/null' 'LogLevel ERROR' 'KexAlgorithms curve25519-sha256' 'Ciphers aes128-ctr' >"$root/root/ssh_config"
	printf '%s\n' 'version = 1' '[jail.calm]' 'rootfs = "/srv/jails/calm"' 'users = ["calm"]' >"$root/etc/jail/jail.toml"
	chmod 600 "$root/etc/jail/jail.toml"
	ln -sfn bash "$root/bin/sh"
	install -m 755 "$top/packaging/vm/inside-arm64.sh" "$root/root/inside.sh"
	cp "$root/bin/busybox" "$root/busybox"
	# A root directory of its own: pivot_root(2) cannot leave the one of an initramfs.
	cat >"$root/init" <<'END'
#!/busybox sh
b=/busybox
$b mkdir /new
$b mount -t tmpfs -o size=75%,mode=755 tmpfs /new
for d in bin etc lib root sbin srv usr var; do $b mv /$d /new/; done
$b mkdir -p /new/dev /new/proc /new/sys /new/run /new/tmp
$b mount -t devtmpfs devtmpfs /new/dev
exec $b switch_root /new /root/inside.sh
END
	chmod 755 "$root/init"
	(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initrd"
}

# In a function, so that bash has read the script to its end by now.
main() {
	local kernel left=$bound status=0
	mkdir -p "$top/build"
	exec 9>"$top/build/arm64-vm.lock"
	flock -n 9 || { echo "try-arm64: it runs already" >&2; exit 1; }
	trap finish EXIT
	trap 'exit 1' HUP INT TERM
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir"
	chmod 700 "$dir"
	machine
	# shellcheck disable=SC2016 # mmdebstrap is to expand it
	kernel=$(kept vm-kernel-arm64 --architectures=arm64 --variant=extract --include=linux-image-cloud-arm64/bookworm-backports \
		--setup-hook='echo "deb http://deb.debian.org/debian bookworm-backports main" >>"$1/etc/apt/sources.list"')
	: >"$dir/console"
	# Without pointer authentication, which an emulator computes for every call.
	nice -n 10 qemu-system-aarch64 -machine virt -accel tcg,tb-size=128 -cpu max,pauth=off -smp 1 -m 1536 -nodefaults -no-reboot \
		-display none -kernel "$kernel"/boot/vmlinuz-* -initrd "$dir/initrd" -append "console=ttyAMA0 panic=-1 quiet" \
		-serial "file:$dir/console" &
	qemu=$!
	while kill -0 $qemu 2>/dev/null && [ $((left -= 1)) -gt 0 ]; do
		sleep 1 &
		wait $! # so that a signal is heeded at once
	done
	[ $left -gt 0 ] || kill -KILL $qemu
	wait $qemu || status=$?
	qemu=''
	tr -d '\r' <"$dir/console" | sed -n '/^FACTS/,$p' | sed 1d
	if [ $status != 0 ] || ! grep -q '^END 0' "$dir/console"; then
		[ $left -gt 0 ] || echo "try-arm64: the machine did not finish within $bound seconds" >&2
		echo "try-arm64: something is wrong; the end of the console:" >&2
		tail -n 40 "$dir/console" >&2
		exit 1
	fi
}

main
exit
