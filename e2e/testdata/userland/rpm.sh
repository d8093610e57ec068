#!/bin/bash
# rpm.sh DIR WORK makes a root directory as distributions with rpm do: packages are built of
# programs of this machine, and installed by rpm itself, with its database. WORK is where
# they are built. The libraries are where the dynamic linker finds them by a cache only, which
# the packages' scripts make.
set -euo pipefail
root=$1 work=$2
staged=$work/staged lists=$work/lists
export HOME=$work LC_ALL=C
for d in etc/rpm home dev proc root run srv sys tmp usr/bin usr/lib/rpm usr/lib64 usr/sbin var/lib/rpm var/log var/tmp; do
	mkdir -p "$staged/$d"
done
mkdir -p "$lists"
cp "$(dirname "$0")/tree.spec" "$work"
for d in bin sbin lib lib64; do ln -s "usr/$d" "$staged/$d"; done
printf 'root:x:0:0:Super User:/root:/bin/bash\nnobody:x:65534:65534:Kernel Overflow User:/:/usr/sbin/nologin\nalice:x:1000:1000::/home/alice:/bin/bash\n' >"$staged/etc/passwd"
printf 'root:x:0:\nwheel:x:10:alice\nnobody:x:65534:\nalice:x:1000:\n' >"$staged/etc/group"
printf 'root:*::0:99999:7:::\nalice:!::0:99999:7:::\n' >"$staged/etc/shadow"
echo /usr/lib64 >"$staged/etc/ld.so.conf"
echo '%_dbpath /var/lib/rpm' >"$staged/etc/rpm/macros"
cp -a /usr/lib/rpm/{macros,rpmrc,platform,rpmpopt*} "$staged/usr/lib/rpm"

# program PACKAGE NAME... puts programs into a package; libraries that no package has yet
# are of the package libraries.
program() {
	local package=$1 name path library
	shift
	for name; do
		path=$(readlink -f "$(command -v "$name")")
		cp "$path" "$staged/usr/bin/$name"
		echo "/usr/bin/$name" >>"$lists/$package"
		# Each line that has an absolute path: "NAME => PATH (...)", or the linker's "PATH (...)".
		while read -r library; do
			[ ! -e "$staged/usr/lib64/${library##*/}" ] || continue
			cp -L "$library" "$staged/usr/lib64"
			chmod 755 "$staged/usr/lib64/${library##*/}"
			echo "/usr/lib64/${library##*/}" >>"$lists/libraries"
		done < <(ldd "$path" | grep -o '/[^ ]*')
	done
}
program bash bash
ln -s bash "$staged/usr/bin/sh"
program coreutils cat cp id ls mkdir rm stat
program rpm rpm
cp "$staged/usr/bin/cat" "$staged/usr/bin/peek" # with a capability
cp /usr/sbin/ldconfig "$staged/usr/sbin"

rpmbuild --quiet -bb --define "_topdir $work/top" --define "staged $staged" --define "lists $lists" "$work/tree.spec"
rpm --root "$root" --dbpath /var/lib/rpm --initdb
rpm --root "$root" --dbpath /var/lib/rpm --force-debian -i "$work"/top/RPMS/*/*.rpm
