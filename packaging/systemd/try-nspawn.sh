#!/bin/bash
# Tries both forms of the systemd units for real: a Debian with systemd and
# openssh-server is booted by systemd-nspawn, what "make install" installs is
# installed there, and people log in. One line is printed for every fact.
# SUITE=trixie takes Debian 13; ONLY=records leaves out all but what is seen of sessions.
#
# Root is needed, and no systemd on this machine. sshd listens on a port of the
# loopback address. Everything is made in build/nspawn and removed again, but
# for the trees in build/trees.
# shellcheck disable=SC2016 # expanded inside
set -euo pipefail
umask 022 # others read what is made here
top=$(cd "$(dirname "$0")/../.." && pwd -P)
dir=$top/build/nspawn
root=$dir/root
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=packaging/demo/trees.sh
. "$top/packaging/demo/trees.sh"

# shellcheck source=packaging/systemd/booted.sh
. "$top/packaging/systemd/booted.sh"
if [ "${1:-}" = become ]; then become "$2"; fi

[ "$(id -u)" = 0 ] || { echo "try-nspawn: root is needed" >&2; exit 1; }
"$top/packaging/deps.sh" systemd

finish() {
	local status=$?
	trap - EXIT
	if [ $status != 0 ] && [ -d "$root/var/log/journal" ]; then
		echo "try-nspawn: something is wrong above; the log of the jails' units:" >&2
		[ -z "$leader" ] || inside journalctl --sync 2>/dev/null || :
		journalctl -q -D "$root/var/log/journal" -u jail -u 'jail@*' -o short-precise >&2 || :
	fi
	end units
	rm -rf --one-file-system "$dir"
}
trap finish EXIT

ssh_as() {
	local login=$1
	shift
	inside ssh -F /root/ssh_config "$login@host" "$@"
}

# ---- the machine ----------------------------------------------------------
rm -rf --one-file-system "$dir"
packages=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,openssh-client,procps
case ${SUITE:-bookworm} in
bookworm) tree=$(kept systemd --include=$packages) ;;
trixie) tree=$(suite=trixie kept systemd-trixie --include=$packages,wtmpdb,libpam-wtmpdb) ;;
*) echo "try-nspawn: SUITE is bookworm or trixie" >&2; exit 64 ;;
esac
mkdir -p "$dir"
chmod 700 "$dir"
cp -a --reflink=auto "$tree" "$root"
make -C "$top" -s install DESTDIR="$root"
port=$(free_port)
cp "$root/usr/share/doc/jail/examples/sshd_config.d/50-jail.conf" "$root/etc/ssh/sshd_config.d/"
printf 'Port %d\nListenAddress 127.0.0.1\n' "$port" >"$root/etc/ssh/sshd_config.d/10-port.conf"
ssh-keygen -q -t ed25519 -N '' -f "$root/root/id"
printf '%s\n' 'Host host' 'HostName 127.0.0.1' "Port $port" 'IdentityFile /root/id' 'StrictHostKeyChecking no' \
	'UserKnownHostsFile /dev/null' 'LogLevel ERROR' >"$root/root/ssh_config"
chroot "$root" groupadd -g 61999 jailed
for user in centos:61000 debian:61001 third:61002; do
	chroot "$root" useradd -K UID_MAX=61999 -u "${user#*:}" -G jailed -M -d /var/lib/jail/empty-home -s /usr/bin/jail-enter "${user%:*}"
done
mkdir -m 700 "$root/srv/jails"
make_busybox "$root/srv/jails/centos" 61000 "$root/root/id.pub"
make_debian "$root/srv/jails/debian" 61001 "$root/root/id.pub"
make_busybox "$root/srv/jails/third" 61002 "$root/root/id.pub"
cat >"$root/etc/jail/jail.toml" <<-TOML
	version = 1
	[jail.centos]
	rootfs = "/srv/jails/centos"
	users  = ["centos"]
	record = "tty"
	[jail.debian]
	rootfs = "/srv/jails/debian"
	users  = ["debian"]
TOML
chroot "$root" systemctl --quiet enable jail.service
chroot "$root" journalctl --update-catalog
# Somebody without a jail, to compare with.
chroot "$root" useradd -m -s /bin/bash plain
install -d -m 700 "$root/home/plain/.ssh"
cp "$root/root/id.pub" "$root/home/plain/.ssh/authorized_keys"
chroot "$root" chown -R plain: /home/plain/.ssh

boot units

# ---- what is seen of sessions ----------------------------------------------
echo "records"
# on_tty LOGIN opens a session on a terminal, off_tty ends it.
on_tty() {
	rm -f "$dir/tty"
	mkfifo "$dir/tty"
	inside ssh -tt -F /root/ssh_config "$1@host" <"$dir/tty" >"$dir/shown" 2>&1 &
	tty=$!
	exec 7>"$dir/tty"
	printf 'echo here $((6 * 7))\n' >&7
	eventually grep -q 'here 42' "$dir/shown"
}
off_tty() {
	printf 'exit\n' >&7
	exec 7>&-
	wait "$tty" || :
	eventually sh_inside '! loginctl list-sessions --no-legend | grep -qw '"$1"
	sleep 1 # a logout of this very second last(1) takes for none
}
# seen LOGIN prints what the host's programs show of LOGIN's session, without what differs
# between two logins anyway.
seen() {
	{
		echo "who: $(inside who | grep "^$1 ")"
		echo "users: $(inside users | tr ' ' '\n' | grep -x "$1")"
		# Which of its programs w(1) names is its affair; a jailed login's on the host is jail-enter.
		echo "w: $(inside w -h -s "$1" | awk '{ print $1, $2, $3 }')"
		echo "last: $(sh_inside "last -w $1 2>/dev/null || last $1" | grep "^$1 " | head -n 1)"
		sh_inside 'for s in $(loginctl list-sessions --no-legend | awk -v u='"$1"' "\$3 == u { print \$1 }"); do
			loginctl show-session "$s" -p Name -p Remote -p RemoteHost -p Service -p Type -p Class -p Active -p State -p TTY; done' | sort
	} | sed -E -e "s/$1/NAME/g" -e 's,pts/[0-9]+,pts/N,g' -e 's/[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?/TIME/g' -e 's/  +/ /g'
}
over() { # over LOGIN: when it has ended
	sh_inside "last -w $1 2>/dev/null || last $1" | grep "^$1 " | head -n 1 | sed -E -e "s/$1/NAME/g" -e 's,pts/[0-9]+,pts/N,g' -e 's/[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?/TIME/g' -e 's/  +/ /g'
}
alike() { # alike FILE FILE: both have something in each line, and the same
	! grep -E ': $|^$' "$1" && diff "$1" "$2"
}
patience=600 ok "the machine is up: somebody without a jail logs in" eventually ssh_as plain true
for login in plain centos; do
	ok "$login is on a terminal" on_tty $login
	seen $login >"$dir/seen.$login"
	off_tty $login
	over $login >"$dir/over.$login"
done
ok "who, users, w, last and loginctl show a jailed session as a plain one" alike "$dir/seen.plain" "$dir/seen.centos"
[ -z "${SHOW:-}" ] || cat "$dir/seen.plain" "$dir/over.plain"
ok "... and last, when it has ended" alike "$dir/over.plain" "$dir/over.centos"
# entry, field REGEXP: the journal has one entry of the start of a session of centos with it.
entry() { sh_inside 'journalctl JAIL_LOGIN=centos JAIL_EVENT=session-started -o json -n 1'; }
field() { entry | grep -E -- "\"$1"; }
for f in 'MESSAGE":"jail centos: session [a-z0-9]{8} login centos started: shell, pts/[0-9]+, pid [0-9]+, by sshd from 127\.0\.0\.1 ' \
	'MESSAGE_ID":"f7c65e0b6c99405e875330b5eab433e6"' 'PRIORITY":"6"' 'SYSLOG_IDENTIFIER":"jail-init"' 'SYSLOG_FACILITY":"10"' \
	'JAIL_NAME":"centos"' 'JAIL_SESSION":"[a-z0-9]{8}"' 'JAIL_KIND":"shell"' 'JAIL_UID":"61000"' 'JAIL_TTY":"pts/[0-9]+"' \
	'JAIL_CALLER_SERVICE":"sshd"' 'JAIL_CALLER_ADDRESS":"127\.0\.0\.1"' 'JAIL_CALLER_PORT":"[0-9]+"' 'JAIL_CALLER_KEY":"SHA256:[A-Za-z0-9+/]{43}"' \
	'JAIL_CALLER_TTY":"pts/[0-9]+"' '_SYSTEMD_UNIT":"jail.service"' '_TRANSPORT":"journal"'; do
	ok "the journal has ${f%%\"*}" field "$f"
done
ok "... the session's end" sh_inside 'journalctl JAIL_LOGIN=centos JAIL_EVENT=session-ended -o json | grep "\"JAIL_STATUS\":\"0\"" | grep JAIL_DURATION_MS'
ok "... and says what that means" sh_inside 'journalctl -x JAIL_LOGIN=centos JAIL_EVENT=session-ended -n 1 | grep "Subject: A session has ended in jail centos"'
for what in "registry-taken The registry of jails is in force" "jail-started Jail centos has been started"; do
	ok "... of ${what%% *}" sh_inside "journalctl -x JAIL_EVENT=${what%% *} | grep 'Subject: ${what#* }'"
done
ok "... and nothing twice" says 1 sh_inside 'journalctl -u jail -o cat | grep -c "jail centos.* started: pid"'
# login(1), on a terminal of the host's, and a su of root's.
console() { { sleep 2; echo exit; sleep 1; } | inside script -qec 'login -f centos' /dev/null; }
ok "a login on the console" console
ok "... is one in the journal" eventually sh_inside 'journalctl JAIL_LOGIN=centos JAIL_EVENT=session-started JAIL_CALLER_SERVICE=console -o json | grep "\"JAIL_CALLER_TTY\":\"pts/[0-9]*\""'
ok "a su" inside su - centos -c 'sleep 0.5'
ok "... is one, too" eventually sh_inside 'journalctl JAIL_LOGIN=centos JAIL_EVENT=session-started JAIL_CALLER_SERVICE=su -o cat | grep "by su"'
ok "jail exec says who called it" inside jail exec centos true
ok "... is one, too" eventually sh_inside 'journalctl JAIL_NAME=centos JAIL_KIND=exec JAIL_EVENT=session-started -o json | grep "\"JAIL_CALLER_UID\":\"[0-9]*\""'
# sshd starts nothing for a client that only forwards: the host's own books are all there is.
sh_inside "echo \$\$ >/run/forwards; exec ssh -N -F /root/ssh_config -L 127.0.0.1:$((port + 100)):127.0.0.1:1 centos@host" >/dev/null 2>&1 &
forwards=$!
ok "a client that only forwards is in loginctl" eventually sh_inside \
	'for s in $(loginctl list-sessions --no-legend | awk "\$3 == \"centos\" { print \$1 }"); do loginctl show-session "$s" -p Service -p RemoteHost --value; done | paste -s | grep "127.0.0.1"'
ok "... is in sshd's log" sh_inside 'journalctl -t sshd -t sshd-session -o cat | grep -c "Accepted publickey for centos from 127.0.0.1" | grep -x 2'
ok "... and in no record" sh_inside '! jail who | grep centos && journalctl JAIL_LOGIN=centos JAIL_EVENT=session-started JAIL_CALLER_SERVICE=sshd -o cat | wc -l | grep -x 1'
sh_inside 'kill $(cat /run/forwards)'
wait $forwards || :
inside jail stop --all
[ "${ONLY:-}" != records ] || { inside systemctl poweroff; down || :; [ $failed = 0 ]; exit; }

# ---- jail.service ---------------------------------------------------------
echo "jail.service"
ok "systemd takes the units without a warning" sh_inside '! systemd-analyze --man=no verify /usr/lib/systemd/system/jail{.service,@.service,@.socket} 2>&1 | grep .'
ok "sshd takes the example" inside sshd -t
ok "it is active after boot" says active inside systemctl is-active jail.service
# Which controllers there are in here is up to the machine.
ok "the registry has no fault and no warning" sh_inside '! jail check | grep -v -e ^note: -e "no pids controller"'
ok "no jail runs before the first login" says 1 sh_inside 'pgrep -c jail-init'
ok "ssh centos@host lands in the jail" says "work /home/work A very small CentOS \\n \\l" \
	ssh_as centos 'echo $(id -un) $(pwd) $(cat /etc/issue)'
ok "su - centos lands in the same" says "jail-init: centos" inside su - centos -c 'cat /proc/1/cmdline | tr "\0" " " | sed "s/ *$//"'
ok "ssh debian@host lands in another" says "work debian" ssh_as debian 'echo $(id -un) $(hostname)'
ok "a command's status comes back" says 7 sh_inside 'ssh -F /root/ssh_config debian@host exit 7; echo $?'
ok "the jails are in the cgroup of jail-all.service" sh_inside 'grep -q /jail-all.service/jail-debian /proc/$(pgrep -xf "jail-init: debian")/cgroup'
hold ssh_as debian
ok "a session is open" answers one
ok "... loginctl shows it as one of sshd's" sh_inside \
	'for s in $(loginctl list-sessions --no-legend | awk "\$3 == \"debian\" { print \$1 }"); do loginctl show-session -P Service "$s"; done | grep -qx sshd'
recorded() { sh_inside "ssh -F /root/ssh_config -tt centos@host 'echo $1 \$((6 * 7))' </dev/null 2>/dev/null | grep -q recorded" &&
	eventually sh_inside "jail replay centos | grep -q '$1 42'"; }
ok "a terminal is recorded" recorded before
pid=$(first debian)
ok "another one is open" on_tty centos
ok "systemctl restart jail, twice" sh_inside 'systemctl restart jail.service && systemctl restart jail.service'
ok "... what records it is in a unit of its own" sh_inside 'grep -q "/system.slice/jail-recorder-[0-9]*-1.scope$" /proc/$(pgrep -xf "jail-recorder .*" -o)/cgroup'
ok "... so systemd finds no left-over process" sh_inside '! journalctl -u jail.service | grep -i left-over'
printf 'echo still $((6 * 7))\n' >&7
ok "... it is recorded still" eventually sh_inside 'jail replay centos | grep -q "still 42"'
off_tty centos
ok "... there is one unit when it has ended" eventually says 1 sh_inside 'systemctl list-units --no-legend "jail-recorder-*.scope" | wc -l'
ok "... a terminal is recorded" recorded after
ok "... the session goes on" answers two
ok "... in the same jail" says "$pid" first debian
ok "... and a new login lands there, too" says "work debian" ssh_as debian 'echo $(id -un) $(hostname)'
ok "... it is active" says active inside systemctl is-active jail.service
ok "jail-init serve is killed" sh_inside 'kill -KILL $(systemctl show -P MainPID jail.service)'
ok "... systemd starts it again" eventually says active inside systemctl is-active jail.service
ok "... the session goes on" answers three
inside jail stop centos
ok "... and a stopped jail starts again" eventually says "work" ssh_as centos 'id -un'
ok "systemctl reload jail" inside systemctl reload jail.service
ok "... the log says so" eventually sh_inside 'journalctl -u jail | grep -q "reloaded: 2 jails"'
dropin=$root/etc/jail/jail.d/third.toml
printf 'version = 1\n[jail.third]\nrootfs = "/srv/jails/third"\nusers = ["third"]\n' >"$dropin"
ok "a file in jail.d is a jail" inside systemctl reload jail.service
ok "... and lands" says work ssh_as third 'id -un'
sed -i 's/= \[/= [[/' "$dropin"
ok "a typo in it fails the reload" sh_inside '! systemctl reload jail.service'
ok "... the journal says where" eventually sh_inside 'journalctl -u jail | grep -q "out of service: jail third.*/etc/jail/jail.d/third.toml:4: "'
ok "... ps says so" sh_inside 'jail ps third | grep -q faulty'
ok "... its login is refused, by su" says 125 sh_inside 'su - third -c true 2>/dev/null; echo $?'
ok "... and has no keys" says 255 sh_inside 'ssh -F /root/ssh_config third@host true 2>/dev/null; echo $?'
ok "... others go on" says work ssh_as centos 'id -un'
ok "... also after a restart" inside systemctl restart jail.service
ok "... and its logins land" says work ssh_as centos 'id -un'
sed -i 's/= \[\[/= [/' "$dropin"
ok "mended, it is back" inside systemctl reload jail.service
ok "... and lands" says work ssh_as third 'id -un'
ok "an account is removed" eventually inside userdel third
ok "... which fails the reload" sh_inside '! systemctl reload jail.service'
ok "... others go on" says work ssh_as centos 'id -un'
ok "... also after a restart" inside systemctl restart jail.service
ok "... with their keys" says work ssh_as centos 'id -un'
rm "$dropin"
ok "without the file all is well" inside systemctl reload jail.service
inside jail stop third

# A unit that runs a command in a jail, as docs/services.md has it.
cat >"$root/etc/systemd/system/centos-work.service" <<-UNIT
	[Unit]
	Wants=jail.service
	After=jail.service

	[Service]
	ExecStart=/usr/bin/jail exec centos sh -c "echo at work as \$\$(id -u); trap 'echo told to end; exit 0' TERM; while :; do sleep 0.2; test ! -e /tmp/fail || exit 3; done"
	Restart=always
	RestartSec=100ms
	SyslogIdentifier=centos-work
	SyslogLevelPrefix=no
UNIT
inside systemctl daemon-reload
work() { sh_inside "journalctl -t centos-work | grep -c '$1'"; }
inside jail stop centos
ok "a unit with jail exec starts" inside systemctl start centos-work.service
ok "... and the jail, if need be" eventually first centos
ok "... what it writes is in the journal, by the name of SyslogIdentifier=" eventually says 1 work 'at work as 0'
ok "... it counts as a session" sh_inside 'jail who | grep centos | grep -q exec'
inside jail exec centos touch /tmp/fail
ok "... its status is the command's, and it starts again" eventually sh_inside '[ "$(systemctl show -P NRestarts centos-work)" -ge 1 ]'
ok "... indeed" sh_inside 'journalctl -u centos-work | grep -q "status=3"'
inside jail exec centos rm /tmp/fail
ok "... it is up again" eventually says active inside systemctl is-active centos-work.service
ok "it is up again after the jail was stopped" sh_inside 'jail stop centos; for i in $(seq 100); do [ "$(systemctl is-active centos-work)" = active ] && pgrep -xf "jail-init: centos" >/dev/null && exit 0; sleep 0.1; done; exit 1'
eventually sh_inside 'jail who | grep centos | grep -q exec'
ok "systemctl stop ends the command inside" inside systemctl stop centos-work.service
ok "... by its own hand" eventually says 1 work 'told to end'
ok "... and nothing of it is left" eventually sh_inside '! jail who | grep centos'
rm "$root/etc/systemd/system/centos-work.service"

ok "systemctl stop jail" inside systemctl stop jail.service
ok "... the session goes on" answers four
ok "... and a login to a running jail works" says "work" ssh_as debian 'id -un'
ok "systemctl start jail" inside systemctl start jail.service
ok "... finds the running jail" eventually sh_inside 'journalctl -u jail | tail -n 20 | grep -q "jail debian runs already"'
echo end >&8
exec 8>&-
status=0
wait $held || status=$?
ok "the session's status comes back" [ $status = 9 ]
inside jail stop --all

# ---- jail@.socket ---------------------------------------------------------
echo "jail@61001.socket"
ok "starting it ends jail.service" inside systemctl start jail@61001.socket
ok "... indeed" says inactive sh_inside 'systemctl is-active jail.service || :'
ok "its socket is the account's, mode 600" says "61001 600" inside stat -c '%u %a' /run/jail/61001/sock
ok "no jail runs before the first login" says 0 sh_inside 'pgrep -c jail-init || :'
ok "ssh debian@host starts it" says "work debian" ssh_as debian 'echo $(id -un) $(hostname)'
ok "... in jail@61001.service" says active inside systemctl is-active jail@61001.service
ok "... and in its cgroup" sh_inside 'grep -q "/jail@61001.service" /proc/$(pgrep -xf "jail-init: debian")/cgroup'
ok "su - debian lands in the same" says "debian" inside su - debian -c hostname
ok "another account has no jail" sh_inside '! su - centos -c true'
hold ssh_as debian
ok "a session is open" answers one
ok "systemctl daemon-reload, and the session goes on" inside systemctl daemon-reload
answers two || failed=1
ok "systemctl stop jail@61001.service" inside systemctl stop jail@61001.service
status=0
wait $held || status=$?
exec 8>&-
ok "... ends the session as a hang-up does (255 of ssh)" [ $status = 255 ]
ok "... leaves nothing" says 0 sh_inside 'pgrep -c jail-init || :'
ok "... is no failure" says inactive sh_inside 'systemctl is-active jail@61001.service || :'
ok "the next login starts it again" says "work debian" ssh_as debian 'echo $(id -un) $(hostname)'
ok "PID 1 is killed" sh_inside 'kill -KILL $(pgrep -xf "jail-init: debian")'
ok "... the next login gets a fresh jail" eventually says "work debian" ssh_as debian 'echo $(id -un) $(hostname)'
inside systemctl stop jail@61001.socket
ok "stopping the socket ends the jail" eventually says 0 sh_inside 'pgrep -c jail-init || :'

# ---- jail setup, jail add --------------------------------------------------
# What the README says, on a host on which jail has just been installed.
echo "jail setup, jail add"
inside systemctl --quiet disable jail.service
eventually inside userdel centos 2>/dev/null # the manager of its last session takes ten seconds to go
eventually inside userdel debian 2>/dev/null
sh_inside '! getent group jailed >/dev/null' || inside groupdel jailed
rm "$root/etc/ssh/sshd_config.d/50-jail.conf" "$root/etc/jail/jail.toml"
inside systemctl reload ssh.service
ok "jail setup makes the host ready" inside jail setup
ok "... the service runs" says active inside systemctl is-active jail.service
ok "... and will after a boot" says enabled inside systemctl is-enabled jail.service
ok "... sshd has the block" sh_inside 'cmp /etc/ssh/sshd_config.d/50-jail.conf /usr/share/doc/jail/examples/sshd_config.d/50-jail.conf'
ok "once more, it changes nothing" inside jail setup
ok "jail setup --undo" inside jail setup --undo
ok "... the service does not run" says inactive sh_inside 'systemctl is-active jail.service || :'
ok "... nor will" says disabled sh_inside 'systemctl is-enabled jail.service || :'
ok "... group, block and registry are gone" sh_inside '! getent group jailed && ! ls /etc/ssh/sshd_config.d/50-jail.conf /etc/jail/jail.toml'
ok "jail setup again" inside jail setup
ok "jail add makes a login and tries it" inside jail add debian --rootfs /srv/jails/debian --key /root/id.pub
ok "... ssh lands" says "debian debian" ssh_as debian 'echo $(id -un) $(hostname)'
ok "... so does su" says debian inside su - debian -c 'id -un'
ok "a second one of the same jail" inside jail add second --jail debian --key /root/id.pub
ok "... lands, too" says "second debian" ssh_as second 'echo $(id -un) $(hostname)'
ok "jail check has nothing to say of them" sh_inside '! jail check | grep -v -e ^note: -e "no pids controller"'
ok "jail doctor finds them well" inside jail doctor --all
ok "... and leaves nothing" sh_inside '! ls -d /run/jail/proof /run/.jail-doctor-*'
ok "a password that has to be changed" inside chage -d 0 second
ok "... jail check says so" sh_inside 'jail check second | grep "^error: second: .*\[password-must-change\]$"'
ok "... no session begins without a terminal" sh_inside '! ssh -F /root/ssh_config second@host true'
ok "... nor does jail doctor find it well" sh_inside '! jail doctor second'
ok "... the cure that was named" sh_inside 'sh -c "$(jail check second | sed -n "s/.*fix: \(chage -d -1 second\) .*/\1/p")"'
ok "... and it is well again" inside jail doctor second
ok "jail disable" inside jail disable second --login --message "back at noon"
ok "... says why" sh_inside 'ssh -F /root/ssh_config second@host true 2>&1 | grep "back at noon"'
ok "... and jail why more" sh_inside 'id=$(ssh -F /root/ssh_config second@host true 2>&1 | sed "s/.*(id //; s/)//"); sleep 1; jail why "$id" | grep "what to do: jail enable"'
ok "jail enable" inside jail enable second
ok "... lands again" says second ssh_as second 'id -un'
ok "jail rm takes it away" inside jail rm second --purge
ok "... without a trace" sh_inside '! getent passwd second && ! grep second /srv/jails/debian/etc/passwd && ! ls /srv/jails/debian/home/second'
ok "jail setup --undo refuses as long as there are logins" sh_inside '! jail setup --undo'
ok "... the other goes on" says debian ssh_as debian 'id -un'
inside jail stop --all

# ---- the end --------------------------------------------------------------
echo "power off"
inside systemctl start jail.service
hold ssh_as debian
ok "a session is open" answers one
inside systemctl poweroff
ok "the machine goes down within a minute" down
exec 8>&-
wait $held || :
ok "the jails were ended before" sh -c 'journalctl -q -D "$1/var/log/journal" -u jail | grep -q "jail debian ended"' - "$root"
[ $failed = 0 ]
