#!/bin/bash
# Runs inside the machine of try-vm.sh network, as root, and prints one line for every fact
# about the jails' network; "END" and the number of those that are not so come last. The
# machine boots twice: what the first time has left behind is what the second looks at.
# shellcheck disable=SC2016,SC2086,SC2317 # expanded inside a jail; names of ours have no blanks; called by facts.sh
set -uo pipefail
dir=/run/try
mkdir -p $dir
failed=0
# shellcheck source=packaging/vm/facts.sh
. /root/facts.sh

# listen HOW LOGIN PORT prints what becomes of a listener on all addresses that is there for a
# second: "143" on the last line at the end of it, or why there is none.
listen() {
	local command="busybox timeout 1 busybox nc -l -p $3 2>&1; echo \$?"
	case $1 in
	su) su - "$2" -c "$command" ;;
	ssh) ssh_as "$2" "$command" ;;
	root) jail exec "$2" sh -c "$command" ;;
	esac
}
free() { listen "$@" >$dir/listen; cat $dir/listen; [ "$(tail -n 1 $dir/listen)" = 143 ]; }
taken() { listen "$@" | tee $dir/listen | grep -qi -e denied -e 'in use' || { cat $dir/listen; return 1; }; }
registry() {
	printf 'version = 1\n[jail.hog]\nrootfs = "/srv/jails/hog"\nusers = ["hog"]\n%s\n[jail.calm]\nrootfs = "/srv/jails/calm"\nusers = ["calm"]\n%s\n[jail.plain]\nrootfs = "/srv/jails/plain"\nusers = ["plain"]\nuserns = false\n%s\n' \
		"$1" "$2" "$3" >/etc/jail/jail.toml
}
pins() { { find /sys/fs/bpf/jail -name 'link_*' 2>/dev/null || :; } | wc -l; }
since() { systemctl show -P "$1" "$2"; }
over() {
	[ $failed = 0 ] || journalctl -q --no-pager -b -o short-precise -u jail.service -u jail-all.service -u jail-net.service -u ssh.service | tail -n 120
	echo "END $failed"
	exit
}

if [ ! -e /root/booted ]; then
	echo "# Linux $(uname -r), $(systemctl --version | head -n 1)"
	ok "the scenarios of the tests, in all modes" e2e 'TestNetwork(RootMode|ContainerRoot|OneUID|Life|LifeRootMode)?'

	echo "the registry gets keys"
	ok "systemd takes the unit without a warning" sh_ '! systemd-analyze --man=no verify /usr/lib/systemd/system/jail-net.service 2>&1 | grep .'
	ok "nothing is loaded for a registry without keys" says 0 pins
	registry $'ports = [80, "8000-8009"]\nloopback = []' $'ports = []\nloopback = []' $'ports = [25]\nloopback = []'
	ok "a reload loads it" sh_ 'jail reload'
	ok "... sixteen programs" eventually says 16 pins
	ok "a user of the host does not get what a jail owns" taken su admin 8000
	ok "... and others" free su admin 8500
	ok "a jail has its ports, low ones too" free su hog 80
	ok "... another one does not" taken su calm 80
	ok "one with the host's ids has its own" free su plain 25
	ok "... and no other" taken su plain 80
	ok "... nor has its root" taken root plain 8000
	ok "check finds nothing about it" sh_ '! jail check | grep -e network-no-cgroup -e port-taken -e listener-old'

	# The next boot: serve comes late.
	mkdir -p /etc/systemd/system/jail.service.d
	printf '[Service]\nExecStartPre=/bin/sh -c "while [ ! -e /run/go-on ]; do sleep 1; done"\nTimeoutStartSec=infinity\n' >/etc/systemd/system/jail.service.d/late.conf
	# ssh.service waits for what it is ordered after; here it is to be first
	sed -i 's/^Before=ssh.service sshd.service$//' /usr/lib/systemd/system/jail.service
	# and so is this
	sed -i 's/^After=.*/After=ssh.service/; /^ExecStopPost/d' /etc/systemd/system/try.service
	systemctl --quiet daemon-reload
	echo $failed >/root/booted
	sync
	systemctl --no-block reboot
	exit 0
fi

failed=$(cat /root/booted)
echo "# booted again"
trap 'systemctl --no-block poweroff' EXIT
ok "sshd runs" eventually says active systemctl is-active ssh.service
ok "serve does not yet" sh_ '[ "$(systemctl is-active jail.service)" = activating ]'
ok "the network was loaded before" says active systemctl is-active jail-net.service
ok "... and finished before sshd was started" test "$(since ExecMainExitTimestampMonotonic jail-net.service)" -lt "$(since ExecMainStartTimestampMonotonic ssh.service)"
ok "... sixteen programs" says 16 pins
ok "the first who logs in does not get what a jail owns" taken ssh admin 8000
ok "... nor by sshd's forward" sh_ '(timeout 60 ssh -F /root/ssh_config -o ExitOnForwardFailure=yes -R 8001:127.0.0.1:22 -N admin@host 2>&1 </dev/null || :) | grep "forwarding failed"'
ok "... and others" free ssh admin 8500
touch /run/go-on
ok "serve comes" eventually says active systemctl is-active jail.service
ok "a jail has its ports" free ssh hog 80
ok "... by su as well" free su hog 80
ok "... also with the host's ids" free ssh plain 25
ok "... and no others" taken su plain 80
ok "serve is killed" sh_ 'kill -KILL $(systemctl show -P MainPID jail.service)'
ok "... the rules are in force" taken ssh admin 8000
ok "... serve comes again" eventually says active systemctl is-active jail.service
ok "... to the jails that run" free su hog 80
ok "... also with the host's ids" taken su plain 80
registry '' '' ''
ok "the keys are taken out" sh_ 'jail reload'
ok "... the jails end" jail stop --all
ok "... and everything goes" eventually sh_ '[ ! -e /sys/fs/bpf/jail ] && ! ip -6 addr show dev lo | grep fd6a'
ok "a user of the host has the ports" eventually free ssh admin 8000
over
