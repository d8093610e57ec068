#!/bin/bash
# Tries the packages for real, on Debians booted by systemd-nspawn and in qemu:
#
#	try-package.sh bookworm | trixie | sid | vm | rpm | many | policies | readme | cast ...
#
# vm is a Debian 12 in qemu, with its own kernel and without KVM; the others have this machine's
# kernel. rpm is the other package, by rpm on a Debian 12: its scriptlets, files and modes are
# tried, and what it requires is there by a package that has nothing else. many is a thousand
# logins from a list and a thousand of a group, on a Debian 13, and how long they take. policies is
# what SELinux's and AppArmor's own programs make of the examples, in the policy of Debian 13. readme
# types the commands under "Install" in the README, as they stand there. cast
# records the terminal of who types the README's commands, build/tour.cast.
#
# The packages are built, twice each and in two places, and have to be the same byte for
# byte; lintian and rpmlint have nothing to say. On each Debian, without sshd at first, the
# package is installed by apt-get, a login is made and used from outside, the package is
# upgraded while a session is open, the machine boots again, the package is removed, comes
# back, and is purged. One line is printed for every fact. What was typed on trixie, and what
# was answered, becomes build/tour.md: docs/tour.md is a copy.
#
# Root is needed, a Debian mirror, and no systemd on this machine. sshd listens on a port of
# the loopback address. Everything is made in build/package and removed again, but for the
# trees in build/trees. KEEP=yes keeps it. PACKAGES=DIR takes packages of the versions 1.0 and 1.1
# that are there already, and does not build any.
# shellcheck disable=SC2016,SC2317,SC2034 # expanded inside, called by ok, used by what is sourced
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd -P)
dir=$top/build/package/try
root=$dir/root
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=packaging/demo/trees.sh
. "$top/packaging/demo/trees.sh"
# shellcheck source=packaging/systemd/booted.sh
. "$top/packaging/systemd/booted.sh"
# shellcheck source=packaging/vm/machine.sh
. "$top/packaging/vm/machine.sh"
if [ "${1:-}" = become ]; then become "$2"; fi

[ "$(id -u)" = 0 ] || { echo "try-package: root is needed" >&2; exit 1; }
"$top/packaging/deps.sh" package

finish() {
	local status=$?
	trap - EXIT
	if [ "$status" != 0 ] && [ "$kind" = vm ]; then
		echo "try-package: something is wrong above; the end of the machine's console:" >&2
		tail -n 40 "$dir/console" >&2 || :
	elif [ "$status" != 0 ] && [ -d "$root/var/log/journal" ]; then
		echo "try-package: something is wrong above; the log of the jails' units:" >&2
		[ -z "$leader" ] || inside journalctl --sync 2>/dev/null || :
		journalctl -q -D "$root/var/log/journal" -u jail -u 'jail@*' -o short-precise | tail -n 60 >&2 || :
	fi
	end package
	[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$top/build/package"
}

# on host|client TEXT COMMAND [FILTER] types COMMAND, as root on the Debian or on a machine
# elsewhere, and adds it to the tour with its output, through FILTER. It is a fact, TEXT, that
# the command succeeds.
on() {
	local where=$1 what=$2 command=$3 filter=${4:-cat} prompt='root@host:~# ' status=0
	[ "$where" = host ] || prompt='client$ '
	if [ "$where" = host ]; then
		inside env -i HOME=/root TERM=dumb LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			DEBIAN_FRONTEND=noninteractive sh -c "cd; $command" >"$dir/typed" 2>&1 8>&- 9>&- || status=$?
	else
		(cd "$dir/client" && bash -c "ssh() { command ssh -F $dir/client/config \"\$@\"; }; sftp() { command sftp -q -F $dir/client/config \"\$@\"; }; $command") >"$dir/typed" 2>&1 || status=$?
	fi
	sed -i 's/\r//g' "$dir/typed" # of dpkg on apt-get's terminal
	{
		printf '%s%s\n' "$prompt" "$command"
		$filter <"$dir/typed"
	} >>"$dir/tour"
	ok "$what" same 0 $status
}
same() { [ "$1" = "$2" ] || { echo "$2 instead of $1"; cat "$dir/typed"; return 1; }; }
# shows REGEXP: what was typed last has shown it.
shows() { grep -qE -- "$1" "$dir/typed" || { cat "$dir/typed"; return 1; }; }
# about TEXT: what stands between two commands of the tour.
about() {
	[ ! -s "$dir/tour" ] || printf '```\n\n' >>"$dir/tour"
	printf '%s\n\n```\n' "$1" >>"$dir/tour"
}

# brief leaves of what apt-get says what is about this package.
brief() { grep -E '^(Unpacking|Setting up|Removing|Purging configuration files for) jail |^jail: |^  (accounts|the registry|files of|sshd)|^E:' || :; }

ssh_as() {
	local login=$1
	shift
	ssh -F "$dir/client/config" "$login@host" "$@" </dev/null
}
# held_as is ssh_as, with standard input.
held_as() { ssh -F "$dir/client/config" "$@"; }
shell() { inside sh -c "$1"; }

# What is done to a Debian, whichever it is.
kind=''
inside() {
	if [ "$kind" != vm ]; then
		nsenter --target "$leader" --mount --pid --uts --ipc --root --wd -- "$@"
	else # the shell there takes it apart again
		ssh -F "$dir/client/config" -o ControlMaster=auto -o ControlPersist=600 -o "ControlPath=$dir/client/root" root@host "$(printf '%q ' "$@")" </dev/null
	fi
}
# up boots it.
up() {
	if [ "$kind" != vm ]; then
		boot package
		return
	fi
	# Nothing but that port leads in, and nothing out.
	nice -n 5 qemu-system-x86_64 -accel tcg,tb-size=128 -cpu max -smp 1 -m 1024 -nodefaults -no-reboot -display none \
		-kernel "$dir/linux-6.1" -initrd "$dir/initrd-6.1" -append "console=ttyS0 root=/dev/vda panic=-1 quiet random.trust_cpu=on" \
		-drive "file=$dir/disk,format=raw,if=virtio" -serial "file:$dir/console" \
		-netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-10.0.2.15:22" -device virtio-net-pci,netdev=net,romfile= &
	nspawn=$! leader=$!
	for _ in {1..100}; do
		kill -0 "$nspawn" || break
		if inside true 2>/dev/null; then return; fi
		sleep 3
	done
	echo "try-package: nobody answers in the virtual machine" >&2
	exit 1
}
# off COMMAND ends it by that, and waits until it has gone down.
off() {
	inside systemctl --no-block "$1" || :
	rm -f "$dir/client/root"
	ok "it goes down" eventually_down
	end package
}
eventually_down() { down || { [ "$kind" = vm ] && down; } || { [ "$kind" = vm ] && down; }; }

# builds makes the packages in two places, one with another umask, language and time zone.
builds() {
	local out v
	for v in 1.0 1.1; do
		for out in deb rpm; do
			nice -n 10 env VERSION=$v PACKAGE_WORK="$top/build/package/a" PACKAGE_DIST="$dir/packages" "$top/packaging/package.sh" $out >/dev/null
		done
	done
	(
		umask 077
		out=$top/build/package/else/where
		for v in deb rpm; do
			nice -n 10 env LC_ALL=C TZ=Asia/Kathmandu VERSION=1.1 PACKAGE_WORK="$out" PACKAGE_DIST="$dir/again" "$top/packaging/package.sh" $v >/dev/null
		done
	)
	ok "two builds are the same .deb, byte for byte" cmp "$dir"/packages/jail_1.1_*.deb "$dir"/again/jail_1.1_*.deb
	ok "two builds are the same .rpm, byte for byte" cmp "$dir"/packages/jail-1.1-1.*.rpm "$dir"/again/jail-1.1-1.*.rpm
	ok "another version is another package" sh -c '! cmp -s "$@"' - "$dir"/packages/jail_1.[01]_*.deb
	ok "lintian has nothing to say" quiet lintian --allow-root --display-info --pedantic "$dir"/packages/jail_1.1_*.deb
	ok "rpmlint has nothing to say" sh -c 'rpmlint -c "$1" "$2" | tee /dev/stderr | grep -q " 0 errors, 0 warnings"' - "$top/packaging/rpm/rpmlint.toml" "$dir"/packages/jail-1.1-1.*.rpm
	ok "SELinux's compiler takes the module" selinux
	ok "the .rpm has the programs of the .deb" unpacked
}
quiet() { # quiet COMMAND...: it succeeds, and prints nothing
	local out
	out=$("$@" 2>&1) || { echo "$out"; return 1; }
	[ -z "$out" ] || { echo "$out"; return 1; }
}
selinux() {
	rm -rf "$dir/selinux"
	cp -r "$top/packaging/selinux" "$dir/selinux"
	make -C "$dir/selinux" -f /usr/share/selinux/devel/Makefile jail.pp && [ -s "$dir/selinux/jail.pp" ]
}
unpacked() {
	mkdir -p "$dir"/un/{deb,rpm}
	dpkg-deb -x "$dir"/packages/jail_1.1_*.deb "$dir/un/deb"
	(cd "$dir/un/rpm" && rpm2cpio "$dir"/packages/jail-1.1-1.*.rpm | cpio --quiet -idm)
	diff -r --no-dereference --exclude=doc --exclude=licenses --exclude=zsh "$dir/un/deb" "$dir/un/rpm"
	(cd "$dir/un/deb" && find . -path ./usr/share -prune -o -printf '%m %y %p\n' | sort) >"$dir/un/deb.modes"
	(cd "$dir/un/rpm" && find . -path ./usr/share -prune -o -printf '%m %y %p\n' | sort) >"$dir/un/rpm.modes"
	diff "$dir"/un/{deb,rpm}.modes
}

# machine SUITE boots a Debian as it is before anybody thinks of jails: without sshd, but for
# the virtual machine, which cannot fetch it.
machine() {
	local tree options=()
	kind=nspawn suite=$1 patience=100
	port=$(free_port)
	rm -rf --one-file-system "$root" "$dir/client"
	case $1 in
	rpm)
		suite=bookworm
		tree=$(kept package-bookworm --include=systemd,systemd-sysv,libpam-systemd,dbus,procps,apt,ca-certificates)
		;;
	vm)
		kind=vm suite=bookworm patience=1200
		tree=$(kept vm --include=systemd,systemd-sysv,libpam-systemd,dbus,udev,openssh-server,openssh-client,procps)
		;;
	*)
		[ "$1" != sid ] || options=(--aptopt='Acquire::Check-Valid-Until "false"')
		tree=$(kept "package-$1" --include=systemd,systemd-sysv,libpam-systemd,dbus,procps,apt,ca-certificates "${options[@]}")
		;;
	esac
	cp -a --reflink=auto "$tree" "$root"
	mkdir -p "$root/etc/ssh/sshd_config.d" "$dir/client"
	if [ "$kind" = nspawn ]; then
		cp -L /etc/resolv.conf "$root/etc/resolv.conf"
		printf 'Port %d\nListenAddress 127.0.0.1\n' "$port" >"$root/etc/ssh/sshd_config.d/10-port.conf"
	fi
	echo host >"$root/etc/hostname"
	echo '127.0.0.1 localhost host' >"$root/etc/hosts"
	cp "$dir"/packages/jail_1.0_*.deb "$root/root/jail_1.0_amd64.deb"
	cp "$dir"/packages/jail_1.1_*.deb "$root/root/jail_1.1_amd64.deb"
	ssh-keygen -q -t ed25519 -N '' -C client -f "$dir/client/id"
	cp "$dir/client/id.pub" "$root/root/key.pub"
	printf '%s\n' 'Host host' 'HostName 127.0.0.1' "Port $port" "IdentityFile $dir/client/id" 'IdentitiesOnly yes' 'StrictHostKeyChecking no' \
		'UserKnownHostsFile /dev/null' 'LogLevel ERROR' 'ConnectTimeout 20' 'BatchMode yes' >"$dir/client/config"
	# An account of the host, with the same key, and what becomes the jail.
	chroot "$root" useradd -m -s /bin/sh admin
	install -d -o 1000 -g 1000 -m 700 "$root/home/admin/.ssh"
	install -o 1000 -g 1000 -m 600 "$dir/client/id.pub" "$root/home/admin/.ssh/authorized_keys"
	suite=bookworm
	tree=$(kept demo-debian --include=procps)
	tar -C "$tree" --numeric-owner -cf "$root/root/debian.tar" .
	if [ "$kind" = vm ]; then
		install -d -m 700 "$root/root/.ssh"
		cp "$dir/client/id.pub" "$root/root/.ssh/authorized_keys"
		printf '%s\n' '[Match]' 'Type=ether' '[Network]' 'Address=10.0.2.15/24' >"$root/etc/systemd/network/80-net.network"
		chroot "$root" systemctl --quiet enable systemd-networkd.service
		chroot "$root" systemctl --quiet mask systemd-timesyncd.service getty@tty1.service serial-getty@ttyS0.service \
			apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service
		kernel 6.1 --include=linux-image-cloud-amd64
		rm -rf "$root/var/cache/apt"/*.bin
		image
	fi
	up
	[ "$kind" = vm ] || inside apt-get -qq update >/dev/null
	: >"$dir/tour"
}

took() { # took SECONDS LIMIT
	echo "$1 seconds"
	[ "$1" -lt "$2" ]
}

# scenario SUITE
scenario() {
	local pid begun spent all
	echo "$1"
	machine "$1"

	# ---- install ----------------------------------------------------------
	about "A Debian as it comes from the installer, and the package. apt-get brings sshd, too:"
	begun=$(date +%s)
	on host "apt-get installs it" 'apt-get install -y ./jail_1.0_amd64.deb' brief
	spent=$(($(date +%s) - begun))
	ok "... sshd came with it" inside sshd -t
	inside systemctl --quiet start ssh.service
	ok "... nothing is switched on: the service" says "disabled inactive" shell 'echo $(systemctl is-enabled jail.service) $(systemctl is-active jail.service)'
	ok "... nor do jails have a place" says inactive shell 'systemctl is-active jail-all.service || :'
	ok "... nor is sshd's block there" shell '! grep -rl jail-enter /etc/ssh'
	ok "... the group is there, empty" shell 'getent group jailed | grep -q ":$"'
	ok "... jail-enter is no shell to choose" shell '! grep jail-enter /etc/shells'
	ok "... an account of the host logs in as before" says admin ssh_as admin id -un
	ok "... the registry is a conffile" shell 'dpkg-query -W -f "\${Conffiles}" jail | grep -q " /etc/jail/jail.toml "'
	ok "... the files are the package's" quiet inside dpkg --verify jail
	ok "... the home of jailed accounts has sshd's modes" says "755 755 1777" shell 'echo $(stat -c %a /var/lib/jail/empty-home /var/lib/jail/empty-home/.ssh /var/lib/jail/empty-home/.ssh/agent)'
	ok "... manual pages are found" shell 'ls /usr/share/man/man7/jail.7.gz /usr/share/man/man5/jail.toml.5.gz'
	ok "... bash completes it" says "jail setup" shell 'bash --norc -c '"'"'. /usr/share/bash-completion/completions/jail; COMP_WORDS=(jail setu); COMP_CWORD=1; _jail; echo jail $COMPREPLY'"'"
	ok "... journalctl -x knows what it says" shell 'journalctl --list-catalog | grep -q "^[0-9a-f]* jail: "'
	ok "... systemd takes the units without a warning" shell '! systemd-analyze --man=no verify /usr/lib/systemd/system/jail.service /usr/lib/systemd/system/jail@.service /usr/lib/systemd/system/jail@.socket 2>&1 | grep .'

	about "A root file system for people to land in, here of an archive (\`--mmdebstrap trixie\` makes one):"
	on host "an image is imported" 'jail image import debian debian.tar'
	on host "... and copied" 'mkdir -m 700 /srv/jails && jail image copy debian /srv/jails/debian'

	about "The host is made ready, and each thing that this does is shown:"
	begun=$(date +%s)
	on host "jail setup" 'jail setup'
	ok "... the service runs, and will" says "enabled active" shell 'echo $(systemctl is-enabled jail.service) $(systemctl is-active jail.service)'
	about "A login is made, and tried:"
	on host "jail add" 'jail add debian --rootfs /srv/jails/debian --key key.pub'
	about "From elsewhere:"
	on client "ssh lands" "ssh debian@host 'id -un; hostname; pwd; head -n 1 /etc/os-release'"
	spent=$((spent + $(date +%s) - begun))
	ok "... in the jail" shows '^/home/debian$'
	echo "        four commands, from a Debian without sshd to ssh into a jail: $spent seconds without making the root file system"
	[ "$kind" = vm ] || ok "... within two minutes" took $spent 120 # with a processor that is emulated, it is what it is
	ok "... without a compiler" shell '! command -v cc && ! command -v go'
	on client "a status comes back" "ssh debian@host 'exit 7'; echo \$?"
	ok "... indeed" shows '^7$'
	on client "sftp" "echo 'put id.pub note' | sftp debian@host"
	ok "su lands in the same" says "note" inside su - debian -c 'ls'
	on host "jail ps" 'jail ps'
	ok "... has the jail" shows '^debian +(running|idle) '
	if inside jail help 2>&1 | grep -q '^    doctor'; then
		about "All of what ssh does is tried:"
		on host "jail doctor" 'jail doctor debian'
	fi
	# Which controllers there are in here, and what the kernel lacks, is up to the machine.
	ok "jail check finds nothing" shell '! jail check | grep -v -e ^note: -e "no pids controller" -e "Landlock scopes"'
	# Rules for user namespaces came with the parser of Debian 13.
	if [ "$1" != bookworm ] && [ "$kind" != vm ]; then
		inside apt-get install -qq -y --no-install-recommends apparmor >/dev/null 2>&1
		ok "AppArmor's parser takes the profile" shell '[ $(apparmor_parser -QTKS /usr/share/doc/jail/examples/apparmor.d/jail-init | wc -c) -gt 100 ]'
	fi
	echo "        systemd-analyze security:$(inside systemd-analyze --no-pager security jail.service 2>/dev/null | sed -n 's/^→//p')"

	# ---- upgrade -----------------------------------------------------------
	about "Somebody is logged in while the package is upgraded:"
	shell 'echo "# ours" >>/etc/jail/jail.toml'
	hold held_as debian@host
	ok "a session is open" answers one
	printf "client\$ ssh debian@host 'while read -r x; do echo got \$x; done'\none\ngot one\n" >>"$dir/tour"
	pid=$(first debian)
	all=$(inside systemctl show -P MainPID jail-all.service)
	on host "upgrade" 'apt-get install -y ./jail_1.1_amd64.deb' brief
	ok "... the version is the new one" says "jail-init 1.1" inside jail version
	ok "... the session goes on" answers two
	about "In that session:"
	printf 'two\ngot two\n' >>"$dir/tour"
	about "Who logs in now is in the same jail, which has the new programs when it starts the next time."
	ok "... in the same jail" says "$pid" first debian
	ok "... whose unit was left alone" says "$all" inside systemctl show -P MainPID jail-all.service
	ok "... serve is the new program" shell 'cmp /proc/$(systemctl show -P MainPID jail.service)/exe /usr/sbin/jail-init'
	ok "... a new login lands beside it" says debian ssh_as debian 'id -un'
	ok "... what was written into the registry stayed" shell 'grep -q "^# ours" /etc/jail/jail.toml'
	inside jail stop debian >/dev/null
	exec 8>&-
	wait "$held" || :
	on host "a jail that starts now has the new programs" 'jail exec debian id'

	# ---- reboot ------------------------------------------------------------
	about "The machine boots:"
	printf 'root@host:~# systemctl reboot\n' >>"$dir/tour"
	off reboot
	up
	eventually shell 'systemctl is-active --quiet ssh.service || systemctl is-active --quiet ssh.socket' || :
	ok "the service runs after it" eventually says active inside systemctl is-active jail.service
	on client "ssh lands" "ssh debian@host 'id -un; cat note | wc -l'"

	# ---- remove ------------------------------------------------------------
	about "The package is removed. Jails end, and everybody's things stay:"
	hold held_as debian@host
	ok "a session is open" answers one
	on host "remove" 'apt-get remove -y jail' brief
	ok "... says what it keeps" shows '^  files of users: /srv/jails/debian '
	ok "... no jail runs" says 0 shell 'pgrep -c jail-init || :'
	exec 8>&-
	wait "$held" || :
	ok "... no process of a login is left" eventually shell '! pgrep -u debian'
	ok "... its login is refused" shell '! su - debian -c true 2>/dev/null'
	ok "... over ssh, too" sh -c '! ssh -F "$1" debian@host true' - "$dir/client/config"
	ok "... sshd's configuration is sound" inside sshd -t
	ok "... also for sshd that starts again" inside systemctl restart ssh.service
	ok "... an account of the host logs in" eventually says admin ssh_as admin id -un
	ok "... no unit is left, nor has one failed" says 0 shell 'systemctl list-units --state=active,activating,failed --no-legend "jail*" | wc -l'
	about "It comes back:"
	on host "install again" 'apt-get install -y ./jail_1.1_amd64.deb' brief
	ok "... is as it was: enabled, so it runs" says "enabled active" shell 'echo $(systemctl is-enabled jail.service) $(systemctl is-active jail.service)'
	on client "ssh lands" "ssh debian@host 'id -un; cat note | wc -l'"
	ok "... what was written into the registry is there" shell 'grep -q "^# ours" /etc/jail/jail.toml'

	# ---- purge -------------------------------------------------------------
	about "It is purged, and what is left is said:"
	on host "purge" 'apt-get purge -y jail' brief
	ok "... the conffile is gone" shell '! ls /etc/jail/jail.toml 2>/dev/null'
	ok "... so are the programs" shell '! ls /usr/bin/jail* /usr/sbin/jail* /usr/lib/jail /usr/lib/systemd/system/jail* /run/jail 2>/dev/null'
	ok "... and links to the units" shell '! find /etc/systemd /var/lib/systemd/deb-systemd-helper* -name "jail*" | grep .'
	ok "... and the log, and what serve remembers" says "images" shell '! ls /var/log/jail 2>/dev/null && ls -A /var/lib/jail'
	ok "... the user's file is there" shell 'ls /srv/jails/debian/home/debian/note'
	ok "... the registry's file of that jail, too" shell 'ls /etc/jail/jail.d/debian.toml'
	ok "... both are named" shows '/etc/jail/jail.d/debian.toml'
	ok "... with the accounts" shows 'cannot log in: debian$'
	ok "... an account of the host logs in" says admin ssh_as admin id -un
	off poweroff
}

# stubs makes a package that provides what a Fedora has, of nothing.
stubs() {
	printf '%s\n' 'Name: stubs' 'Version: 1' 'Release: 1' 'Summary: What a Fedora has' 'License: none' 'BuildArch: noarch' \
		'Provides: shadow-utils' 'Provides: systemd' 'Provides: /bin/sh' '%description' 'Nothing.' '%files' >"$dir/stubs.spec"
	rpmbuild -bb --define "_topdir $dir/stubs" --define "_rpmdir $dir" --define "_rpmfilename stubs.rpm" "$dir/stubs.spec" >"$dir/out" 2>&1 || { cat "$dir/out"; return 1; }
}

# by_rpm is what the other package has of its own.
by_rpm() {
	local pid all
	echo "rpm"
	machine rpm
	cp "$dir"/packages/*.rpm "$root/root/"
	stubs
	inside env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends rpm openssh-server openssh-client >/dev/null 2>&1
	inside systemctl --quiet start ssh.service
	# This Debian is no rpm's: a package of stubs says that what jail requires is there.
	ok "it requires what the specification says" says "shadow-utils systemd" shell 'echo $(rpm -qpR /root/jail-1.0-1.x86_64.rpm | grep -v -e "^rpmlib(" -e "^/bin/" -e "^config(" | sort)'
	ok "without that it is not installed" shell '! rpm -i /root/jail-1.0-1.x86_64.rpm 2>/dev/null && ! ls /usr/sbin/jail-init 2>/dev/null'
	cp "$dir/stubs.rpm" "$root/root/"
	ok "... which stubs provide" shell 'rpm -i /root/stubs.rpm'
	on host "rpm installs it" 'rpm -i jail-1.0-1.x86_64.rpm'
	ok "... nothing is switched on" says "disabled inactive" shell 'echo $(systemctl is-enabled jail.service) $(systemctl is-active jail.service)'
	ok "... the group is there, empty" shell 'getent group jailed | grep -q ":$"'
	ok "... the files are the package's" quiet inside rpm -V --nodeps jail
	ok "... the registry is a configuration file" says /etc/jail/jail.toml inside rpm -qc jail
	on host "an image" 'jail image import debian debian.tar && mkdir -m 700 /srv/jails && jail image copy debian /srv/jails/debian'
	on host "jail setup" 'jail setup'
	on host "jail add" 'jail add debian --rootfs /srv/jails/debian --key key.pub'
	on client "ssh lands" "ssh debian@host 'id -un; touch note'"
	shell 'echo "# ours" >>/etc/jail/jail.toml'
	hold held_as debian@host
	ok "a session is open" answers one
	pid=$(first debian)
	all=$(inside systemctl show -P MainPID jail-all.service)
	on host "upgrade" 'rpm -U jail-1.1-1.x86_64.rpm'
	ok "... the version is the new one" says "jail-init 1.1" inside jail version
	ok "... the session goes on" answers two
	ok "... in the same jail" says "$pid" first debian
	ok "... whose unit was left alone" says "$all" inside systemctl show -P MainPID jail-all.service
	ok "... serve is the new program" shell 'cmp /proc/$(systemctl show -P MainPID jail.service)/exe /usr/sbin/jail-init'
	ok "... a new login lands beside it" says debian ssh_as debian 'id -un'
	ok "... what was written into the registry stayed" shell 'grep -q "^# ours" /etc/jail/jail.toml'
	on host "erase" 'rpm -e jail'
	ok "... no jail runs" says 0 shell 'pgrep -c jail-init || :'
	exec 8>&-
	wait "$held" || :
	ok "... the units are gone" shell '! systemctl cat jail.service jail-all.service 2>/dev/null'
	ok "... its login is refused" shell '! su - debian -c true 2>/dev/null'
	ok "... an account of the host logs in" says admin ssh_as admin id -un
	ok "... the user's file is there, and the registry" shell 'ls /srv/jails/debian/home/debian/note /etc/jail/jail.d/debian.toml /etc/jail/jail.toml.rpmsave'
	off poweroff
}

# by_thousand is how long many logins take.
by_thousand() {
	local begun spent what
	echo "many"
	machine trixie
	inside env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y ./root/jail_1.1_amd64.deb >/dev/null 2>&1
	inside systemctl --quiet start ssh.service
	ok "a jail for all of them" shell 'jail image import debian /root/debian.tar && mkdir -m 700 /srv/jails && jail image copy debian /srv/jails/class && jail setup'
	shell 'for i in $(seq 1000); do echo "pupil$i,,$(cat /root/key.pub)"; done >/root/list'
	shell 'groupadd students && for i in $(seq 1000); do echo "st$i:x:$((20000+i)):$((20000+i))::/home/st$i:/bin/bash" >>/etc/passwd; echo "st$i:x:$((20000+i)):" >>/etc/group; echo "st$i:*:20000:0:99999:7:::" >>/etc/shadow; done; sed -i "s/^students:.*/&$(seq -s, -f st%g 1000)/" /etc/group'
	for what in "--csv /root/list --jail class --rootfs /srv/jails/class" "--from-group students --jail class"; do
		ok "what it would do: $what" says 1000 shell "jail add $what --dry-run | grep -c '^account '"
		begun=$(date +%s)
		ok "jail add $what" says "1000 logins are made" shell "jail add $what | tail -n 1"
		spent=$(($(date +%s) - begun))
		echo "        a thousand logins: $spent seconds, load $(cut -d' ' -f1 /proc/loadavg) on $(nproc) processors"
		ok "... within a minute" took $spent 60
	done
	ok "the last of the list lands" says pupil1000 ssh_as pupil1000 'id -un'
	inside jail key st1000 add /root/key.pub >/dev/null
	ok "the last of the group, too" says st1000 ssh_as st1000 'id -un'
	ok "two thousand and one accounts are as they should be" shell '! { pwck -qr; grpck -qr; } | grep -e pupil -e jailed'
	ok "given again, nobody is made" says "0 logins are made" shell 'jail add --from-group students --jail class | tail -n 1'
	off poweroff
}

# policies has the examples become part of a whole policy, and asks that what it lets whom do.
policies() {
	local tree policy="/etc/selinux/default/policy/policy.*"
	echo "policies"
	kind='' suite=trixie
	tree=$(kept package-policies --include=selinux-policy-default,setools,apparmor)
	rm -rf --one-file-system "$root"
	cp -a --reflink=auto "$tree" "$root"
	ok "SELinux's compiler takes the module" selinux
	cp "$dir/selinux/jail.pp" "$top/packaging/apparmor/jail-init" "$root/root/"
	ok "it becomes part of the policy" chroot "$root" semodule -n -s default -i /root/jail.pp
	allows() { chroot "$root" sh -c "sesearch -A -s $1 -t $2 -c $3 -p $4 $policy | grep -c '^allow'" || :; }
	ok "sshd gets into the domain of jail-keys" says "type_transition sshd_t jail_keys_exec_t:process jail_keys_t;" chroot "$root" sh -c "sesearch -T -s sshd_t -t jail_keys_exec_t -c process $policy"
	ok "jail-keys reads files of people" says 1 allows jail_keys_t user_home_t file read
	ok "... and of root directories" says 1 allows jail_keys_t var_t file read
	ok "... not passwords" says 0 allows jail_keys_t shadow_t file read
	ok "... nor sshd's keys" says 0 allows jail_keys_t sshd_key_t file read
	ok "... and writes none" says 0 allows jail_keys_t user_home_t file write
	ok "confined users reach their socket" says 1 allows user_t jail_runtime_t sock_file write
	ok "the files' contexts are in it" says 3 chroot "$root" sh -c 'grep -h jail /etc/selinux/default/contexts/files/file_contexts | grep -c -e jail-enter -e jail_keys_exec_t -e jail_runtime_t'
	ok "AppArmor's parser takes the profile" chroot "$root" sh -c '[ $(apparmor_parser -QTKS /root/jail-init | wc -c) -gt 100 ]'
	ok "... and no other one" chroot "$root" sh -c 'sed "s/userns,/usernames,/" /root/jail-init >/root/wrong; ! apparmor_parser -QTK /root/wrong 2>/dev/null'
	rm -rf --one-file-system "$root"
}

# newcomer types what the README says under "Install", and nothing else.
newcomer() {
	local line commands n=0 begun spent=0
	echo "readme"
	machine trixie
	sed -n '/^## Install/,/^## What it looks/s/^# //p' "$top/README.md" | sed 's/  *#.*//' >"$dir/commands"
	mapfile -t commands <"$dir/commands"
	for line in "${commands[@]}"; do
		n=$((n + 1))
		begun=$(date +%s)
		case $line in "apt-get "*) line="yes | $line" ;; esac # who is asked whether to go on
		on host "$line" "$line"
		case $line in
		*mmdebstrap\ *) echo "        a root file system: $(($(date +%s) - begun)) seconds" ;;
		*) spent=$((spent + $(date +%s) - begun)) ;;
		esac
		# apt-get does so on a machine, which this is not for it.
		[ "$n" != 1 ] || inside systemctl --quiet start ssh.service
	done
	ok "they are four" [ "$n" = 4 ]
	begun=$(date +%s)
	on client "ssh debian@host, as the last one says" 'ssh debian@host id -un'
	ok "... lands" shows '^debian$'
	spent=$((spent + $(date +%s) - begun))
	echo "        by the README's words: $spent seconds without making the root file system"
	ok "... within two minutes" took $spent 120
	ok "... without a compiler" shell '! command -v cc && ! command -v go'
	off poweroff
}

# recorded makes build/tour.cast: somebody at a terminal of a Debian 13 types the README's commands.
recorded() {
	echo "cast"
	machine trixie
	printf '%s\n' 'Host host' "Port $port" 'StrictHostKeyChecking no' 'UserKnownHostsFile /dev/null' 'LogLevel ERROR' >"$dir/port.conf"
	install -D -m 644 "$dir/port.conf" "$root/etc/ssh/ssh_config.d/port.conf"
	install -D -m 600 "$dir/client/id" "$root/root/.ssh/id_ed25519"
	mv "$root/root/jail_1.0_amd64.deb" "$root/root/jail.deb"
	local here='root@host:~# ' inner='debian@debian:~$ '
	printf '%s\t%s\n' \
		"$here" 'apt-get install -y -qq ./jail.deb >/dev/null' \
		"$here" 'jail setup' \
		"$here" 'mkdir -m 0700 /srv/jails && jail image import debian debian.tar && jail image copy debian /srv/jails/debian' \
		"$here" 'jail add debian --rootfs /srv/jails/debian --key key.pub' \
		"$inner" 'ssh debian@host' "$inner" 'id' "$inner" 'head -n 1 /etc/os-release' "$inner" 'ps ax' "$inner" 'ls /home; echo mine >note' \
		"$here" 'exit 7' "$here" 'echo $?' "$here" 'su - debian -c "cat note"' "$here" 'jail ps' "$here" 'jail last' "$here" 'jail doctor debian' >"$dir/commands"
	ok "it is typed, and recorded" expect -f "$top/packaging/cast/record.exp" "$dir/tour.cast" "jail: from a bare Debian to ssh" "$dir/commands" \
		nsenter --target "$leader" --mount --pid --uts --ipc --root --wd -- env -i HOME=/root TERM=xterm LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PS1='root@host:\w# ' sh -c 'cd && exec bash --norc --noprofile'
	off poweroff
	[ $failed != 0 ] || cp "$dir/tour.cast" "$top/build/tour.cast"
}

# tour makes build/tour.md of what has been typed.
tour() {
	printf '# A tour, from a bare Debian to a login and back\n\nThis is what `make try-package` types, and what is answered; of what apt-get says, the lines about this package.\n\n'
	sed 's/ $//' "$dir/tour"
	printf '```\n'
}

main() {
	mkdir -p "$top/build"
	exec 9>"$top/build/package.lock"
	flock -n 9 || { echo "try-package: it runs already" >&2; exit 1; }
	trap finish EXIT
	trap 'exit 1' HUP INT TERM
	rm -rf --one-file-system "$top/build/package"
	mkdir -p "$dir/packages"
	chmod 700 "$top/build/package"
	if [ -n "${PACKAGES:-}" ]; then cp "$PACKAGES"/jail?1.[01]* "$dir/packages/"; else builds; fi
	for each in "$@"; do
		case $each in
		rpm) by_rpm ;;
		many) by_thousand ;;
		policies) policies ;;
		cast) recorded ;;
		readme) newcomer ;;
		*) scenario "$each" ;;
		esac
		[ "$each" != trixie ] || tour >"$top/build/tour.md"
	done
	[ $failed = 0 ]
}

main "$@"
exit
