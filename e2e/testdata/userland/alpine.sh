#!/bin/bash
# alpine.sh DIR makes what Alpine Linux has in its place: musl, busybox, and accounts in
# its manner. The program "lookup" is linked to musl; busybox is the machine's.
set -euo pipefail
here=$(dirname "$0") root=$1
for d in bin dev etc/apk etc/profile.d home lib/apk/db media/cdrom media/floppy mnt opt root run sbin srv tmp \
	usr/bin usr/lib usr/local/bin usr/sbin usr/share var/cache var/empty var/lib var/log var/spool/mail var/tmp proc sys; do
	mkdir -p "$root/$d"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 0555 "$root/proc" "$root/sys" "$root/var/empty"
chmod 0700 "$root/root"
ln -s /run "$root/var/run"
ln -s /run/lock "$root/var/lock"
ln -s ../proc/mounts "$root/etc/mtab"

cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do
	case $applet in
	busybox | dpkg | dpkg-deb | rpm | rpm2cpio | nologin) continue ;;
	*) [ -e "$root/bin/$applet" ] || ln -s /bin/busybox "$root/bin/$applet" ;;
	esac
done
for applet in nologin init reboot ifconfig route; do ln -sf /bin/busybox "$root/sbin/$applet"; done
linker=$(readlink -f /lib/ld-musl-*.so.1)
name=$(basename /lib/ld-musl-*.so.1)
install -m 0755 "$linker" "$root/lib/$name"
ln -s "$name" "$root/lib/libc.${name#ld-}"
musl-gcc -Os -Wall -Werror -o "$root/usr/bin/lookup" "$here/lookup.c" -pthread
install -m 4111 "$root/usr/bin/lookup" "$root/bin/bbsuid" # which nobody may read

echo 3.22.0 >"$root/etc/alpine-release"
printf 'ID=alpine\nNAME="Alpine Linux"\nVERSION_ID=3.22.0\n' >"$root/etc/os-release"
uname -m >"$root/etc/apk/arch"
: >"$root/lib/apk/db/installed"
cat >"$root/etc/passwd" <<-'end'
	root:x:0:0:root:/root:/bin/sh
	bin:x:1:1:bin:/bin:/sbin/nologin
	daemon:x:2:2:daemon:/sbin:/sbin/nologin
	lp:x:4:7:lp:/var/spool/lpd:/sbin/nologin
	sync:x:5:0:sync:/sbin:/bin/sync
	mail:x:8:12:mail:/var/mail:/sbin/nologin
	operator:x:11:0:operator:/root:/sbin/nologin
	man:x:13:15:man:/usr/man:/sbin/nologin
	cron:x:16:16:cron:/var/spool/cron:/sbin/nologin
	guest:x:405:100:guest:/dev/null:/sbin/nologin
	nobody:x:65534:65534:nobody:/:/sbin/nologin
end
cat >"$root/etc/group" <<-'end'
	root:x:0:root
	bin:x:1:root,bin,daemon
	daemon:x:2:root,bin,daemon
	tty:x:5:
	wheel:x:10:root
	mail:x:12:mail
	shadow:x:42:
	users:x:100:games
	nogroup:x:65533:
	nobody:x:65534:
end
printf 'root:*::0:::::\nbin:!::0:::::\nnobody:!::0:::::\n' >"$root/etc/shadow"
chown 0:42 "$root/etc/shadow"
chmod 0640 "$root/etc/shadow"
printf '/bin/sh\n/bin/ash\n' >"$root/etc/shells"
cat >"$root/etc/profile" <<-'end'
	export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	export PAGER=less
	umask 022
	for script in /etc/profile.d/*.sh ; do
		if [ -r "$script" ] ; then
			. "$script"
		fi
	done
	unset script
end
echo 'export CHARSET=UTF-8' >"$root/etc/profile.d/locale.sh"
