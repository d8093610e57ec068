#!/bin/bash
# Is the first process of the machine of try-arm64.sh: it prints one line for every
# fact, then "END" and the number of those that are not so, and switches the machine
# off.
# shellcheck disable=SC2016 # expanded inside a jail
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
busybox mount -t proc proc /proc
busybox --install -s /bin 2>/dev/null
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /run/sshd
mkdir -m 711 /run/jail
mount -t devpts devpts /dev/pts
ip link set lo up
hostname vm
exec </dev/null >/dev/console 2>&1

failed=0
# ok WHAT STATUS TEXT COMMAND...: COMMAND ends with STATUS, and TEXT is what it says.
ok() {
	local what=$1 status=$2 text=$3 said got=0
	shift 3
	said=$("$@" 2>&1 | tr -d '\r'; exit "${PIPESTATUS[0]}") || got=$?
	if [ $got = "$status" ] && [ "$said" = "$text" ]; then
		echo "ok      $what"
	else
		echo "NOT OK  $what"
		echo "        status $got: $said"
		failed=$((failed + 1))
	fi
}
login() { su -s /usr/bin/jail-enter calm -c "$1"; }
ssh_() { ssh -F /root/ssh_config "$@"; }
# attacks WHO...: every attack there is, of which those that went through are printed.
attacks() { "$@" /usr/bin/attack secret=none-of-it all 2>/dev/null | awk -F '\t' '$2 != "refused" { print } END { print (NR > 100) }'; }
tests() {
	if "$@" >/run/out 2>&1; then tail -n 1 /run/out; else cat /run/out && return 1; fi
}
put_and_get() {
	printf 'put /etc/passwd here\nget here /run/back\n' | sftp -q -b - -F /root/ssh_config host >/dev/null && cmp /etc/passwd /run/back
}

echo FACTS
jail-init serve >/run/serve.log 2>&1 &
for _ in {1..300}; do
	[ -S /run/jail/61001/sock ] && break
	sleep 0.1
done
/usr/sbin/sshd
ok "a login by su, which starts the jail" 7 'aarch64 61001' login 'echo $(uname -m) $(id -u); exit 7'
ok "its first process" 0 'jail-init: calm' login 'cat /proc/1/cmdline | tr "\0" "\n" | grep .'
ok "it has a filter, and no more capabilities than elsewhere" 0 'Seccomp: 2 CapBnd: 00000000800405fb' \
	login 'echo $(grep ^Seccomp: /proc/self/status) $(grep ^CapBnd /proc/self/status)'
ok "a signal's end" 143 Terminated login 'kill -TERM $$'
ok "a login by ssh, with a key from inside" 5 work ssh_ host 'id -un; exit 5'
ok "one on a terminal" 6 /dev/pts/0 ssh_ -tt host 'tty; exit 6'
ok "sftp, by the built-in server" 0 '' put_and_get
ok "no attack goes through, as root inside" 0 1 attacks jail-init exec calm
ok "nor as the tenant" 0 1 attacks ssh_ host
cd /root/tests || exit
ok "what the filter refuses this kernel refuses" 0 PASS tests ./confine.test -test.run '^TestTheKernelAgrees$'
ok "processes are made, in a cgroup, with an identity" 0 PASS tests ./sys.test -test.timeout 5m
ok "the jail ends" 0 '' jail-init stop calm
[ $failed = 0 ] || cat /run/serve.log
echo "END $failed"
poweroff -f
