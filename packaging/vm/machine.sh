# shellcheck shell=bash
# The kernel and the disk of a machine for qemu; sourced by try-vm.sh and try-package.sh.
# $dir is where a script keeps its things, $root is the machine's tree.
: "${dir:?}" "${root:?}"

# kernel NAME MMDEBSTRAP-ARGUMENT... makes $dir/linux-NAME and $dir/initrd-NAME, and
# puts its modules into the machine. No initramfs of Debian's: it takes longer to unpack, without KVM, than all the
# rest to boot.
kernel() {
	local name=$1 tree modules work=$dir/initrd m
	shift
	tree=$(kept "vm-kernel-$name" --variant=extract "$@")
	cp "$tree"/boot/vmlinuz-* "$dir/linux-$name"
	modules=$(echo "$tree"/lib/modules/*)
	mkdir -p "$work"/{bin,dev,proc,new}
	cp "$(command -v busybox)" "$work/bin/busybox"
	{
		echo '#!/bin/busybox sh'
		for m in $(modules_for "$tree" "${modules##*/}" virtio_pci virtio_blk virtio_net ext4); do
			cp "$m" "$work/"
			echo "/bin/busybox insmod /${m##*/}"
		done
		echo '/bin/busybox mount -t devtmpfs devtmpfs /dev'
		echo '/bin/busybox mount -t ext4 /dev/vda /new || exec /bin/busybox poweroff -f'
		echo '/bin/busybox mount --move /dev /new/dev'
		echo 'exec /bin/busybox switch_root /new /sbin/init'
	} >"$work/init"
	chmod 755 "$work/init"
	(cd "$work" && find . | busybox cpio -o -H newc | gzip -1) >"$dir/initrd-$name" 2>/dev/null
	rm -rf "$work"
	mkdir -p "$root/lib/modules"
	cp -a "$modules" "$root/lib/modules/"
}

# modules_for TREE RELEASE MODULE... prints the files to load, in order. What is
# built into the kernel has none.
modules_for() {
	local tree=$1 release=$2
	shift 2
	[ -e "$tree/lib/modules/$release/modules.dep.bin" ] || depmod -b "$tree" "$release"
	modprobe -d "$tree" -S "$release" --show-depends -a "$@" | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# image makes the disk of the tree.
image() {
	mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$dir/disk" 2G
	truncate -s 256M "$dir/swap"
	mkswap -q "$dir/swap" 2>/dev/null || mkswap "$dir/swap" >/dev/null
}
