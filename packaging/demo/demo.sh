#!/bin/bash
# The demo: three kinds of jails and an sshd of its own on a loopback port, in mount, PID
# and UTS namespaces where /etc is a copy, /usr an overlay, and /run, /var/lib,
# /var/log, /root and /tmp are empty. The machine's accounts, programs and sshd
# are neither used nor changed.
#
#	demo.sh start         make it, start it, run the transcript
#	demo.sh shell LOGIN   ssh into a jail; LOGIN=root is a shell beside sshd
#	demo.sh stop          end it and leave nothing but build/
set -euo pipefail
umask 022 # others read what is made here
top=$(cd "$(dirname "$0")/../.." && pwd -P)
here=$top/packaging/demo
fallback=/var/lib/jail-demo
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# shellcheck source=packaging/demo/trees.sh
. "$here/trees.sh"

say() { printf 'demo: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# safe DIR: whether DIR and all above it are root's, writable by nobody else. A
# tree with set-uid programs in it belongs nowhere else, and neither does a
# registry.
safe() {
	local dir=$1 mode owner
	while :; do
		read -r owner mode < <(stat -c '%u %a' "$dir")
		[ "$owner" = 0 ] && [ $((0$mode & 022)) = 0 ] || return 1
		[ "$dir" != / ] || return 0
		dir=$(dirname "$dir")
	done
}

# place prints the directory the demo lives in.
place() {
	if [ -e $fallback/demo ] || ! safe "$top"; then
		echo $fallback/demo
	else
		echo "$top/build/demo"
	fi
}

# running prints the host's pid of the demo's PID 1. A pid alone may be
# somebody else's by now, so its start time is noted as well.
started() { [ -r "/proc/$1/stat" ] && sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; }
running() {
	local pid when
	[ -e "$1/pid" ] && read -r pid when <"$1/pid" && [ "$(started "$pid")" = "$when" ] && echo "$pid"
}

inside() { nsenter --target "$1" --mount --pid --uts --root --wd -- "${@:2}"; }

free_port() {
	local port
	for port in {2222..2299}; do
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
	die "no free port from 2222 to 2299 on 127.0.0.1"
}

# write_etc DIR PORT makes a copy of /etc with the demo's accounts, registry,
# and set-up of sshd and ssh in it.
write_etc() {
	local etc=$1 port=$2 login uid home
	cp -a /etc/. "$etc"
	for login in centos:61000:/var/lib/jail/empty-home debian:61001:/var/lib/jail/empty-home anna:61002:/home/anna ben:61003:/home/ben; do
		IFS=: read -r login uid home <<<"$login"
		# The machine may have an account of that name or uid, and it in groups
		# that no jailed account may be in.
		for file in passwd shadow group gshadow; do
			[ -e "$etc/$file" ] || continue
			awk -F: -v OFS=: -v login="$login" -v uid="$uid" -v file=$file '
				$1 == login { next }
				(file == "passwd" || file == "group") && $3 == uid { next }
				file == "group" || file == "gshadow" {
					n = split($NF, member, ","); $NF = ""
					for (i = 1; i <= n; i++)
						if (member[i] != login) $NF = $NF ($NF == "" ? "" : ",") member[i]
				}
				{ print }' "$etc/$file" >"$etc/$file.new"
			cat "$etc/$file.new" >"$etc/$file"
			rm "$etc/$file.new"
		done
		printf '%s:x:%d:%d::%s:/usr/bin/jail-enter\n' "$login" "$uid" "$uid" "$home" >>"$etc/passwd"
		printf '%s:*:19000:0:99999:7:::\n' "$login" >>"$etc/shadow"
		printf '%s:x:%d:\n' "$login" "$uid" >>"$etc/group"
	done
	printf 'jailed:x:61999:centos,debian,anna,ben\nguests:x:61998:anna,ben\n' >>"$etc/group"
	echo host >"$etc/hostname"
	echo "127.0.0.1 host" >>"$etc/hosts"
	rm -rf "$etc/update-motd.d" "$etc/motd" "$etc/nologin" "$etc/jail"

	mkdir -p "$etc/jail"
	cat >"$etc/jail/jail.toml" <<-TOML
		version = 1

		[jail.centos]
		rootfs = "/srv/jails/centos"
		users  = ["centos"]

		[jail.debian]
		rootfs = "/srv/jails/debian"
		users  = ["debian"]

		[template.guest]
		rootfs = "host"
		[[match]]
		group = "guests"
		template = "guest"
	TOML
	chmod 755 "$etc/jail"
	chmod 644 "$etc/jail/jail.toml"

	rm -rf "$etc/ssh"
	mkdir -p "$etc/ssh/sshd_config.d"
	ssh-keygen -q -t ed25519 -N '' -C demo -f "$etc/ssh/host_key"
	cp "$dir/id" "$etc/ssh/demo_id"
	chmod 600 "$etc/ssh/demo_id"
	cp "$top/config/examples/sshd_config.d/50-jail.conf" "$etc/ssh/sshd_config.d/"
	cat >"$etc/ssh/sshd_config" <<-CONF
		ListenAddress 127.0.0.1
		Port $port
		HostKey /etc/ssh/host_key
		PidFile none
		UsePAM yes
		PrintMotd no
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		Subsystem sftp /usr/lib/openssh/sftp-server
		Include /etc/ssh/sshd_config.d/*.conf
	CONF
	cat >"$etc/ssh/ssh_config" <<-CONF
		Host host
		    HostName 127.0.0.1
		    Port $port
		    HostKeyAlias host
		    IdentityFile /etc/ssh/demo_id
		    IdentitiesOnly yes
		    GlobalKnownHostsFile /etc/ssh/ssh_known_hosts
		    UserKnownHostsFile none
		    LogLevel ERROR
	CONF
	printf 'host %s\n' "$(cat "$etc/ssh/host_key.pub")" >"$etc/ssh/ssh_known_hosts"
}

# furnish is PID 1 of the namespaces; it never returns.
furnish() {
	local dir=$1 port=$2 f
	mount --make-rprivate /
	hostname host
	mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$dir/mem"
	mkdir -p "$dir"/mem/{etc,upper,work}
	chmod 755 "$dir"/mem/*
	write_etc "$dir/mem/etc" "$port"
	# Sources below a place that is covered are opened first, by mounting them.
	mount --bind "$dir/srv" /srv
	mount --bind "$dir/home" /home
	mount -t overlay -o "lowerdir=/usr,upperdir=$dir/mem/upper,workdir=$dir/mem/work" overlay /usr
	install -D -m 755 "$top/bin/jail-enter" /usr/bin/jail-enter
	install -D -m 755 "$top/bin/jail-init" /usr/sbin/jail-init
	install -D -m 755 "$top/bin/jail-keys" /usr/lib/jail/jail-keys
	install -D -m 755 "$top/bin/jail-pid1" /usr/lib/jail/pid1
	install -D -m 755 "$top/bin/jail-sftp-server" /usr/lib/jail/sftp-server
	install -D -m 755 "$top/bin/jail-import" /usr/lib/jail/import
	install -D -m 755 "$top/bin/jail-net" /usr/lib/jail/net
	ln -sfn ../sbin/jail-init /usr/bin/jail
	mount --bind "$dir/mem/etc" /etc
	exec 3>"$dir/log" 4>"$dir/ready" # before what they lie in may be covered
	for f in /run /var/lib /var/log /root /tmp; do
		mount -t tmpfs -o mode=755,nosuid,nodev tmpfs $f
	done
	chmod 1777 /tmp
	chmod 700 /root
	mkdir -p /run/sshd /run/lock /var/lib/jail/empty-home/.ssh /var/lib/jail/images
	mount --bind /srv/images /var/lib/jail/images
	jail image import debian /srv/debian.tar >&3 2>&1
	jail image copy debian /srv/jails/debian >&3 2>&1
	add_user /srv/jails/debian 61001 /bin/bash /srv/id.pub
	mkdir -m 1777 /var/lib/jail/empty-home/.ssh/agent
	touch /run/utmp /var/log/{wtmp,btmp,lastlog}
	cd /
	export LANG=C.UTF-8
	jail-init serve >&3 2>&1 </dev/null 4>&- &
	/usr/sbin/sshd -D -e >&3 2>&1 </dev/null 4>&- &
	for _ in {1..100}; do
		if [ -S /run/jail/61000/sock ] && [ -S /run/jail/61003/sock ] && (exec 5<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo ready >&4
			break
		fi
		sleep 0.1
	done
	exec 3>&- 4>&-
	while :; do
		wait # PID 1 is the parent of whatever is left over
		sleep 1
	done
}

start() {
	[ "$(id -u)" = 0 ] || die "root is needed, for namespaces and mounts"
	"$top/packaging/deps.sh" demo
	if pid=$(running "$(place)"); then
		die "runs already; make demo-stop ends it"
	fi
	stop
	dir=$(place)
	if [ "$dir" = $fallback/demo ]; then
		say "root's alone must be the way to the jails, and it is not here: using $fallback (make demo-stop removes it)"
	fi
	say "making the jails in $dir"
	mkdir -p "$dir"/{mem,srv/jails,home}
	mkdir -m 700 "$dir/srv/images"
	chmod 700 "$dir"
	chmod 700 "$dir/srv/jails" # no account of the host comes near set-uid files of a tree
	ssh-keygen -q -t ed25519 -N '' -C demo -f "$dir/id"
	make_busybox "$dir/srv/jails/centos" 61000 "$dir/id.pub"
	tree=$(kept demo-debian --include=procps)
	tar -C "$tree" --numeric-owner -cf "$dir/srv/debian.tar" .
	make_home "$dir/home/anna" 61002 "$dir/id.pub"
	make_home "$dir/home/ben" 61003 "$dir/id.pub"
	cp "$dir/id.pub" "$dir/srv"
	port=$(free_port)
	: >"$dir/ready"
	setsid unshare --mount --pid --uts --fork --mount-proc --kill-child --propagation private \
		"$here/demo.sh" furnish "$dir" "$port" >"$dir/furnish.log" 2>&1 </dev/null &
	for _ in {1..900}; do
		[ ! -s "$dir/ready" ] || break
		kill -0 $! 2>/dev/null || break
		sleep 0.1
	done
	pid=$(pgrep -P $! || :)
	[ -z "$pid" ] || echo "$pid $(started "$pid")" >"$dir/pid"
	if [ ! -s "$dir/ready" ]; then
		cat "$dir/furnish.log" "$dir/log" >&2 2>/dev/null || :
		stop
		die "the namespaces, jail-init serve or sshd did not come up; what they said is above"
	fi
	if ! expect -f "$here/transcript.exp" nsenter --target "$pid" --mount --pid --uts --root --wd --; then
		say "the log of jail-init and sshd:"
		tail -n 40 "$dir/log" >&2
		stop
		die "the transcript does not show what it should"
	fi
	cat >&2 <<-TEXT
		demo: all as it should be. The jails go on, with an sshd on 127.0.0.1:$port; log in by hand:

		    make demo-shell LOGIN=debian
		    make demo-shell LOGIN=centos
		    make demo-shell LOGIN=anna      a cage of the host
		    make demo-shell LOGIN=root      the host: su - centos, jail ps

		and end it with: make demo-stop
	TEXT
}

shell() {
	pid=$(running "$(place)") || die "does not run; make demo starts it"
	if [ "$1" = root ]; then
		inside "$pid" env -i HOME=/root TERM="${TERM:-dumb}" PATH="$PATH" LANG=C.UTF-8 bash
	else
		inside "$pid" env -i HOME=/root TERM="${TERM:-dumb}" PATH="$PATH" LANG=C.UTF-8 ssh -t "$1@host"
	fi
}

# stop ends what runs and removes what was made.
stop() {
	local dir pid
	for dir in "$top/build/demo" $fallback/demo; do
		if pid=$(running "$dir"); then
			kill -KILL "$pid" # PID 1: the kernel ends all processes of the namespace
			while [ -e "/proc/$pid" ]; do sleep 0.05; done
		fi
		rm -rf --one-file-system "$dir"
	done
	if [ -d $fallback ]; then rmdir $fallback; fi
}

case ${1:-} in
start) start ;;
shell) shell "${2:-debian}" ;;
stop) stop ;;
furnish)
	dir=$2
	furnish "$2" "$3"
	;;
*)
	echo "usage: demo.sh start | shell LOGIN | stop" >&2
	exit 64
	;;
esac
