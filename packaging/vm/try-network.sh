#!/bin/bash
# Runs the tests of what loads the jails' network (internal/netload) on another kernel, in a
# virtual machine that has nothing but them, without KVM: some seconds. Its verifier, its
# hooks and its sums of programs are what differs from one kernel to the next.
#
#	try-network.sh VMLINUZ...
#
# No privilege is needed. A kernel has to have BTF, and virtio is of no use: everything is in
# the initial file system.
set -euo pipefail
umask 022 # others read what is made here
top=$(cd "$(dirname "$0")/../.." && pwd -P)
[ $# -gt 0 ] || { echo "usage: try-network.sh VMLINUZ..." >&2; exit 64; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/root/{bin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$dir/root/bin/busybox"
(cd "$top" && CGO_ENABLED=0 go test -c -o "$dir/root/bin/tests" ./internal/netload)
cat >"$dir/root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin JAIL_TEST_MUST_RUN=1
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t cgroup2 c /sys/fs/cgroup
ip link set lo up
echo; echo "Linux $(uname -r)"
tests -test.v
echo "status $?"
poweroff -f
END
chmod 755 "$dir/root/init"
(cd "$dir/root" && find . | cpio -o -H newc 2>/dev/null | gzip) >"$dir/initrd"
for kernel; do
	# CMPXCHG16B, which newer kernels use, loses the flags in qemu 7.2.
	timeout 600 qemu-system-x86_64 -cpu max,cx16=off -m 1024 -nographic -no-reboot -kernel "$kernel" -initrd "$dir/initrd" \
		-append "console=ttyS0 quiet panic=-1" </dev/null | tr -d '\r' | sed -n '/Linux /,$p' | tee "$dir/console"
	grep -qx "status 0" "$dir/console" || { echo "try-network: $kernel: the tests failed" >&2; exit 1; }
done
