# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034 # expanded inside, used by who sources it
# A Debian booted by systemd-nspawn, to try things on; sourced by try-nspawn.sh and
# try-package.sh. $dir is where a script keeps its things, $root is the Debian's tree.
: "${dir:?}" "${root:?}"

nspawn='' leader='' failed=0

# become the Debian. In a mount namespace of its own: nspawn wants a cgroup file system as
# it is on a machine with systemd, and this one may have another or none.
become() {
	mount --make-rprivate /
	mount -t tmpfs -o mode=755 tmpfs /run # nspawn leaves directories there
	umount -R /sys/fs/cgroup 2>/dev/null || :
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mkdir -p "/sys/fs/cgroup/jail-try-$1"
	echo $$ >"/sys/fs/cgroup/jail-try-$1/cgroup.procs"
	# A host, not a container: nothing mounted over parts of /proc, no filter, all
	# capabilities, no id map of its own.
	export SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
	exec systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --machine="jailtry-$1" \
		--private-users=no --capability=all --resolv-conf=off --link-journal=no --console=pipe
}

# boot NAME starts it, by "$0 become NAME ROOT", and waits until it is up.
boot() {
	setsid unshare --mount "$0" become "$1" "$root" >"$dir/console" 2>&1 </dev/null &
	nspawn=$!
	leader=''
	for _ in {1..300}; do
		leader=$(pgrep -P $nspawn -x systemd || :)
		[ -z "$leader" ] || break
		sleep 0.1
	done
	[ -n "$leader" ] || { cat "$dir/console"; echo "the Debian does not boot" >&2; exit 1; }
	eventually sh_inside 'case $(systemctl is-system-running 2>&1) in running | degraded) ;; *) exit 1 ;; esac' || :
}

# down waits until it has gone down, for a minute.
down() {
	for _ in {1..600}; do
		kill -0 "$nspawn" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

# end kills what is left of it, NAME's.
end() {
	[ -z "$nspawn" ] || kill -KILL "$leader" "$nspawn" 2>/dev/null || :
	wait || :
	for _ in {1..50}; do # what was killed takes a moment to go
		find /sys/fs/cgroup -depth -type d -path "*/jail-try-$1*" -exec rmdir {} \; 2>/dev/null || :
		[ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "jail-try-$1")" ] || break
		sleep 0.1
	done
}

# ok WHAT COMMAND... prints whether COMMAND succeeds.
ok() {
	local what=$1
	shift
	if "$@" >"$dir/out" 2>&1; then
		echo "ok      $what"
	else
		echo "NOT OK  $what"
		sed 's/^/        /' "$dir/out"
		failed=1
	fi
}
inside() { nsenter --target "$leader" --mount --pid --uts --ipc --root --wd -- "$@"; }
sh_inside() { inside bash -c "$1"; }
says() { # says TEXT COMMAND...: the output of COMMAND is TEXT
	local want=$1 got
	shift
	got=$("$@") || { echo "status $?"; return 1; }
	[ "$got" = "$want" ] || { echo "\"$got\" instead of \"$want\""; return 1; }
}
eventually() { # within ten seconds, or as many tenths as patience says
	for _ in $(seq "${patience:-100}"); do
		if "$@"; then return 0; fi
		sleep 0.1
	done
	return 1
}

# hold COMMAND... opens a session: COMMAND with a script for its last argument, which
# answers a line with "got" and that line, and ends with status 9 after "end". Its PID is
# $held.
hold() {
	rm -f "$dir/in"
	: >"$dir/said"
	mkfifo "$dir/in"
	"$@" 'echo here; while read -r x; do [ "$x" = end ] && exit 9; echo "got $x"; done' <"$dir/in" >"$dir/said" 2>"$dir/held.err" &
	held=$!
	exec 8>"$dir/in"
	eventually grep -q here "$dir/said"
}
answers() {
	(trap '' PIPE && echo "$1" >&8) || return # nobody may be there to read it
	eventually grep -qx "got $1" "$dir/said"
}
# The PID of a jail's first process, on the booted host.
first() { inside pgrep -xf "jail-init: $1"; }

# free_port prints a port of the loopback address that nobody has. By chance, since it is used a while
# later only, and somebody else may be looking for one.
free_port() {
	local port
	for port in $(shuf -i 2322-4321 -n 50); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}
