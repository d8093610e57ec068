#!/bin/bash
# Runs inside the machine of try-vm.sh, as root, and prints one line for every
# fact; "END" and the number of those that are not so come last.
# shellcheck disable=SC2016 # expanded inside a jail
set -uo pipefail
dir=/run/try
mkdir -p $dir
all=/sys/fs/cgroup/system.slice/jail-all.service
one=/sys/fs/cgroup/system.slice/system-jail.slice/jail@61000.service

failed=0
# shellcheck source=packaging/vm/facts.sh
. /root/facts.sh
# hold LOGIN opens a session that answers a line with "got" and that line.
hold() {
	rm -f $dir/in
	: >$dir/said
	mkfifo $dir/in
	ssh -F /root/ssh_config "$1@host" 'echo here; while read -r x; do echo "got $x"; done; exit 9' <$dir/in >$dir/said 2>$dir/held.err &
	held=$!
	exec 8>$dir/in
	eventually grep -q here $dir/said
}
answers() {
	echo "$1" >&8
	eventually grep -qx "got $1" $dir/said || { cat $dir/held.err; return 1; }
}
# release ends what hold began; its status is the session's.
release() {
	local status=0
	exec 8>&-
	wait $held || status=$?
	return $status
}
first() { pgrep -xf "jail-init: $1"; } # the PID of a jail's first process
gone() { ! pgrep -xf "jail-init: $1" >/dev/null && ! [ -e "$all/jail-$1" ] && ! [ -e "$one/jail-$1" ]; }
# strays JAIL CGROUP prints the processes of the jail that are not in that cgroup.
strays() {
	local ns p
	ns=$(readlink "/proc/$(first "$1")/ns/pid")
	[ -n "$ns" ] || { echo "no PID 1"; return 1; }
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/ns/pid")" = "$ns" ] || continue
		grep -qx "0::${2#/sys/fs/cgroup}" "$p/cgroup" || { [ ! -e "$p" ] || echo "$p: $(cat "$p/cgroup")"; }
	done 2>/dev/null
}
# limits_of CGROUP prints what is in force there.
limits_of() { (cd "$1" && echo "$(cat memory.max) $(cat memory.swap.max) $(cat cpu.max) $(cat pids.max)"); }
hogs="134217728 0 50000 100000 108"
# held_by_init prints which files of cgroups the first process of a jail has open, and the last
# digit of its flags: 0 is for reading only.
held_by_init() {
	local fd file
	for fd in "/proc/$(first "$1")/fd/"*; do
		file=$(readlink "$fd")
		case $file in
		*/jail-"$1"/*) echo "${file##*/jail-"$1"/} $(sed -n 's/^flags:.*\(.\)$/\1/p' "${fd%/fd/*}/fdinfo/${fd##*/}")" ;;
		*cgroup*) echo "$file" ;;
		esac
	done
}
# fill makes the jail hog as full of processes as it can be.
full() { [ "$(cat "$1/jail-hog/pids.current")" = "$(cat "$1/jail-hog/pids.max")" ]; }
fill() {
	local still=0
	su - hog -c '(while :; do sleep 10000 & done) >/dev/null 2>&1'
	for _ in {1..40}; do
		if full "$1"; then
			# What has just ended is counted until it is reaped.
			[ $((still += 1)) -lt 4 ] || return 0
		else
			still=0
			su - hog -c 'exec sleep 10000 >/dev/null 2>&1' &
		fi
		sleep 1
	done
	cat "$1/jail-hog/pids.current"
	return 1
}

# launch QUOTA TEST runs tests of the package launch. QUOTA is where quotas are kept.
launch() {
	local status=0
	(cd /root/tests && JAIL_TEST_BIN=$PWD/bin JAIL_TEST_QUOTA=$1 JAIL_TEST_MUST_RUN=1 exec ./launch.test -test.run "^($2)\$" -test.v -test.timeout 30m) >$dir/test 2>&1 || status=$?
	grep -v -e '--- PASS' -e '^=== ' $dir/test
	return $status
}

echo "# Linux $(uname -r), $(systemctl --version | head -n 1)"
swapon /dev/vdb

echo "attacks"
# Newer kernels have it off for all but root: the attack is to have a chance.
[ ! -e /proc/sys/dev/tty/legacy_tiocsti ] || echo 1 >/proc/sys/dev/tty/legacy_tiocsti
export JAIL_TEST_BITES='-i386|socketcall|^moby-42681$|^P11|^P12|mlock'
ok "they succeed in a weak container, those by 32-bit system calls among them, and fail in jails" e2e TestAttack
echo "# what had nothing to attack:"
sed -n '/^ *attack_test.go:[0-9]*: [0-9]* attacks;/,/^[^\t]*$/s/^ *\t/#   /p' $dir/test

echo "cages and quotas"
ok "a cage of the host is what it should be on this kernel" launch "" 'TestCage|TestSecretsOfTheHost|TestHomeIsTheLogins'
for fs in "ext4 prjquota /dev/vdc" "xfs pquota /dev/vdd"; do
	read -r fs option disk <<<"$fs"
	mkdir -p "/mnt/$fs"
	ok "$fs is mounted with quotas" mount -t "$fs" -o "$option" "$disk" "/mnt/$fs"
	ok "... a jail has no more of it than its limits, and does not get out of them" launch "/mnt/$fs" TestQuota
	ok "... nor does one with base, and it starts when it is full" launch "/mnt/$fs" TestQuotaOfABase
done

echo "jail.service"
ok "systemd takes the units without a warning" sh_ '! systemd-analyze --man=no verify /usr/lib/systemd/system/jail{,-all,@}.service /usr/lib/systemd/system/jail@.socket 2>&1 | grep .'
ok "it is active after boot" says active systemctl is-active jail.service
ok "jail-all.service too" says active systemctl is-active jail-all.service
jail check >$dir/check 2>&1
if [ "$(uname -r | awk -F. '{ print $1 * 100 + $2 }')" -ge 612 ]; then
	ok "check finds nothing this kernel lacks" sh_ '! grep -e "kernel" -e cgroup -e limit /run/try/check'
	ok "serve warns of nothing" sh_ '! journalctl -u jail | grep warning'
else
	ok "check warns that this kernel has no Landlock scopes" grep -q "^warning: kernel .* no Landlock scopes" $dir/check
	ok "... and finds nothing else it lacks" sh_ '! grep -e cgroup -e limit /run/try/check'
	ok "serve warns of the same, and of nothing else" says 1 sh_ 'journalctl -u jail | grep -c warning'
fi
ok "a jail starts" says "work /home/work" ssh_as hog 'echo $(id -un) $(pwd)'
ok "it has the limits of the registry: memory, no swap, processor, processes and PID 1's threads" says "$hogs" limits_of $all/jail-hog
ok "a jail without limits starts" says work su - calm -c 'id -un'
ok "... it may have 4096 processes" says "max max max 100000 4104" limits_of $all/jail-calm
ok "a terminal is recorded" sh_ 'timeout 60 ssh -tt -F /root/ssh_config calm@host "echo recorded \$((6 * 7))" </dev/null 2>/dev/null | grep "recorded 42"'
ok "... and can be seen again" eventually sh_ 'jail replay calm | grep "recorded 42"'
ok "a jail with pids = 0 starts" says work su - plain -c "id -un"
ok "... it has no limit" says "max max max 100000 max" limits_of $all/jail-plain

hold hog
ok "a session is open" answers one
ssh_as hog 'sleep 10000 & (sleep 10000 &) & sleep 20' >/dev/null &
su - hog -c 'sleep 20' &
jail exec hog sleep 20 &
ok "sessions of ssh, su and exec run" eventually sh_ '[ $(wc -l </sys/fs/cgroup/system.slice/jail-all.service/jail-hog/cgroup.procs) -ge 7 ]'
ok "every process of a jail is in its cgroup, of ssh, su and exec" says "" strays hog $all/jail-hog
ok "inside it is the root of all cgroups" says "0::/ 0::/" su - hog -c 'echo $(cat /proc/self/cgroup /proc/1/cgroup)'
ok "... no cgroup file system is there" su - hog -c '! grep -e "- cgroup" /proc/self/mountinfo && ! ls /sys/fs/cgroup/cgroup.procs'
ok "... root cannot mount one" sh_ '! jail exec hog /bin/busybox mount -t cgroup2 cgroup2 /tmp'
ok "... of its files PID 1 holds one, memory.events of its own, which it can only read" says "memory.events 0" held_by_init hog

echo "processor"
before=$(awk '$1 == "usage_usec" { print $2 }' $all/jail-hog/cpu.stat)
su - hog -c 'timeout 14 sh -c "while :; do :; done" & timeout 14 sh -c "while :; do :; done"' >/dev/null 2>&1 &
sleep 2
a=$(awk '$1 == "usage_usec" { print $2 }' $all/jail-hog/cpu.stat) at=$(date +%s%N)
sleep 8
b=$(awk '$1 == "usage_usec" { print $2 }' $all/jail-hog/cpu.stat) bt=$(date +%s%N)
share=$(((b - a) * 100000 / (bt - at)))
ok "two processes that spin get half a processor (cpu = \"50%\"): $share %" sh_ "[ $share -ge 30 ] && [ $share -le 60 ]"
ok "... and were throttled" sh_ "[ $before -ge 0 ] && [ \$(awk '\$1 == \"nr_throttled\" { print \$2 }' $all/jail-hog/cpu.stat) -gt 10 ]"
wait $!

echo "memory"
pid=$(first hog)
ok "a process that wants 300 MB of 128 is killed: sshd says exit-signal" sh_ '(timeout 60 ssh -v -F /root/ssh_config hog@host "exec dd if=/dev/zero of=/dev/null bs=300M count=1" </dev/null || :) 2>&1 | grep "rtype exit-signal"'
told="jail-enter: out of memory: the kernel has killed a process of this session"
ok "... su says 137" status 137 su - hog -c 'exec dd if=/dev/zero of=/dev/null bs=300M count=1'
ok "... and the user is told why" sh_ "
	out=\$(timeout 60 ssh -F /root/ssh_config hog@host 'exec dd if=/dev/zero of=/dev/null bs=300M count=1' 2>&1 </dev/null)
	echo \"\$out\"; [ \"\$out\" = '$told' ]"
ok "... also of the last command of a shell" sh_ "
	out=\$(su - hog -c 'dd if=/dev/zero of=/dev/null bs=300M count=1; exit' 2>&1); status=\$?
	echo \"\$status \$out\"; [ \$status = 137 ] && echo \"\$out\" | grep -qx '$told'"
ok "... somebody's SIGKILL is none" sh_ "
	out=\$(su - hog -c 'kill -KILL \$\$' 2>&1); status=\$?
	echo \"\$status \$out\"; [ \$status = 137 ] && ! echo \"\$out\" | grep memory"
ok "... last says it of each" eventually says 4 sh_ 'jail last hog | grep -c "out of memory"'
ok "... so does the log" says 4 sh_ 'journalctl -u jail | grep -c "jail hog: session .* ended: .*(out of memory) after"'
ok "... a child that is killed in a shell that goes on is for the shell to say" sh_ "
	out=\$(su - hog -c 'dd if=/dev/zero of=/dev/null bs=300M count=1; echo \$?' 2>&1)
	echo \"\$out\"; echo \"\$out\" | grep -qx 137 && ! echo \"\$out\" | grep memory"
ok "... by the kernel, and no swap was used" says "5 0" sh_ "cd $all/jail-hog && echo \$(awk '\$1 == \"oom_kill\" { print \$2 }' memory.events) \$(cat memory.swap.current)"
ok "... the records have that the limit was met, by the kernel's word, once a minute" sh_ "
	jail logs hog | grep limit-met; n=\$(jail logs hog | grep -c ' limit-met memory 128.0 MiB count='); [ \$n -ge 1 ] && [ \$n -le 3 ]"
ok "... so does the log" sh_ 'journalctl -u jail | grep -q "jail hog: limit met: memory 128.0 MiB"'
ok "... status and ps say it" sh_ 'for verb in status ps; do jail $verb hog | grep "^limits  *memory 128.0 MiB (met [0-9]* times*, last 20.*), cpu 50%, pids 100$" || exit 1; done'
ok "... last names it of the session that goes on" sh_ 'jail last hog | grep "goes on (limits met: memory)"'
ok "... the metrics count it" eventually grep '^jail_limits_met_total{jail="hog",limit="memory"} [1-9]' /srv/jail.prom
ok "... files that are thrown out of the cache for a limit are none" sh_ '
	events=/sys/fs/cgroup/system.slice/jail-all.service/jail-calm/memory.events
	su - calm -c "dd if=/dev/zero of=big bs=1M count=32 2>/dev/null" && sync && jail set calm memory=24M && su - calm -c "cat big big >/dev/null" || exit 1
	cat $events; jail logs calm | grep limit-met && exit 1
	[ $(awk "\$1 == \"max\" { print \$2 }" $events) -gt 0 ] && jail set calm memory=none && su - calm -c "rm big"'
ok "... PID 1 lives on" says "$pid" first hog
ok "... and the other session" answers two
ok "... and a new one can be had" says work su - hog -c "id -un"
ok "a command within the limit is not killed" su - hog -c 'exec dd if=/dev/zero of=/dev/null bs=20M count=1'
ok "what is in /dev/shm counts" su - hog -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=24'
ok "... indeed" sh_ "[ \$(awk '\$1 == \"shmem\" { print \$2 }' $all/jail-hog/memory.stat) -ge 25000000 ]"
ok "... it ends at 64 MB" status 1 su - hog -c 'exec dd if=/dev/zero of=/dev/shm/y bs=1M count=200'
ok "... PID 1 lives on" says "$pid" first hog
ok "... and the other session" answers three
ok "... which can clean up" su - hog -c 'rm -f /dev/shm/x /dev/shm/y'
ok "jail-all.service takes no harm" says active systemctl is-active jail-all.service

echo "limits that move"
ok "set changes those of a jail that runs" sh_ 'jail set hog memory=96M cpu=80%'
ok "... at once" says "100663296 0 80000 100000 108" limits_of $all/jail-hog
ok "... and takes them away" sh_ 'jail set hog memory=none pids=none cpu=none'
ok "... at once" says "max max max 100000 max" limits_of $all/jail-hog
ok "a reload changes them" sh_ 'sed -i "s/\"128M\"/\"256M\"/" /etc/jail/jail.toml && jail reload'
ok "... soon" eventually says "268435456 0 50000 100000 108" limits_of $all/jail-hog
ok "... and back" sh_ 'sed -i "s/\"256M\"/\"128M\"/" /etc/jail/jail.toml && jail reload'
ok "... soon" eventually says "$hogs" limits_of $all/jail-hog
ok "... PID 1 lives on" says "$pid" first hog
ok "... and the other session" answers moved

ok "nobody writes back by himself before a share of the disk is asked for" sh_ "! grep -qw io $all/cgroup.subtree_control"
ok "a share of the disk can be set" jail set hog io_weight=50
ok "... at once" says "default 50" head -n 1 $all/jail-hog/io.weight
ok "... others have the usual one" says "default 100" head -n 1 $all/jail-calm/io.weight
ok "... and taken away" jail set hog io_weight=none
ok "... at once" says "default 100" head -n 1 $all/jail-hog/io.weight
ok "a reload gives one" sh_ 'sed -i "/^limits.*128M/s/pids = 100/pids = 100, io_weight = 7/" /etc/jail/jail.toml && jail reload'
ok "... soon" eventually says "default 7" head -n 1 $all/jail-hog/io.weight
ok "... PID 1 lives on" says "$pid" first hog

echo "processes"
ok "a jail can be full" fill $all
ok "... a new session is refused with 125 and a line" sh_ '
	out=$(timeout 60 ssh -F /root/ssh_config hog@host true 2>&1 </dev/null); status=$?
	echo "$status $out"; [ $status = 125 ] && [ "$(echo "$out" | wc -l)" = 1 ] && echo "$out" | grep -q "as many processes as it may have (limits.pids)"'
ok "... also one with a terminal" sh_ 'timeout 60 ssh -tt -F /root/ssh_config hog@host true </dev/null; [ $? = 125 ]'
ok "... and su" status 125 su - hog -c true
ok "... and exec" sh_ '! jail exec hog true'
ok "... however many come" sh_ 'for i in $(seq 30); do ! su - hog -c true || { echo "the $i. came in"; exit 1; }; done 2>/dev/null'
ok "... PID 1 lives on" says "$pid" first hog
ok "... and the other session" answers four
ok "... ps shows it" sh_ 'jail ps | grep hog'
ok "... another jail has room" says work su - calm -c 'id -un'
ok "... when there is some again, a session can be had" sh_ '
	kill -KILL $(pgrep -x sleep -G 61000 -n) 2>/dev/null
	kill -KILL $(for p in $(cat /sys/fs/cgroup/system.slice/jail-all.service/jail-hog/cgroup.procs); do grep -qx sleep /proc/$p/comm && echo $p; done)
	sleep 1; [ "$(su - hog -c "id -un")" = work ]'
release
su - hog -c 'b() { b | b & }; b; sleep 1000' >/dev/null 2>&1 &
bomb=$!
ok "a fork bomb comes up to the limit" eventually sh_ '[ $(awk "{ print \$2 }" /sys/fs/cgroup/system.slice/jail-all.service/jail-hog/pids.events) -gt 50 ]'
ok "... and never beyond" sh_ 'for i in $(seq 50); do [ $(cat /sys/fs/cgroup/system.slice/jail-all.service/jail-hog/pids.current) -le 108 ] || exit 1; done'
ok "... the records have that" eventually sh_ '[ $(jail logs hog | grep -c " limit-met pids 100 count=") -ge 1 ]'
ok "... jail status says it" sh_ 'jail status hog | grep "^limits .* pids 100 (met [0-9]* times*, last 20"'
ok "... another jail is open to logins" says work ssh_as calm id -un
ok "... a stopped one starts" sh_ 'jail stop plain && [ "$(su - plain -c "id -un")" = work ]'
ok "... and so is the host" says admin ssh_as admin id -un
ok "... the jail can be stopped" timeout 30 jail stop hog
ok "... nothing of it is left" eventually gone hog
ok "... the records have each fork that was refused, in few entries" eventually sh_ '
	set -- $(jail logs hog | sed -n "s/.* limit-met pids 100 count=//p"); echo $*; [ $# -ge 2 ] && [ $# -le 15 ] && n=0 && for i in $*; do n=$((n + i)); done && [ $n -gt 50 ]'
wait $bomb
ok "... and the next login gets a fresh jail with its limits" sh_ "[ \"\$(su - hog -c 'id -un')\" = work ]"
ok "... indeed" says "$hogs" limits_of $all/jail-hog
ok "... and its share of the disk" says "default 7" head -n 1 $all/jail-hog/io.weight

echo "crashes"
printf '#!/bin/sh\ntouch /run/try/helper\n' >$dir/helper.sh
chmod 755 $dir/helper.sh
old=$(cat /proc/sys/kernel/core_pattern)
echo "|$dir/helper.sh" >/proc/sys/kernel/core_pattern
(sh -c 'ulimit -c unlimited; kill -SEGV $$' || :) 2>/dev/null
ok "a crash on the host runs the core helper" eventually test -e $dir/helper
rm -f $dir/helper
su - hog -c 'sh -c "kill -SEGV \$\$"; kill -SEGV $$' >/dev/null 2>&1
sleep 2
ok "one in a jail does not" test ! -e $dir/helper
echo "$old" >/proc/sys/kernel/core_pattern

echo "who may end"
pid=$(first hog)
hold hog
ok "a session is open" answers one
ok "jail-init serve is killed" sh_ 'kill -KILL $(systemctl show -P MainPID jail.service)'
sleep 2
ok "... systemd starts it again, though jails run" eventually says active systemctl is-active jail.service
ok "... the limits are those from before" says "$hogs" limits_of $all/jail-hog
ok "... the session goes on" answers two
met() { jail status --json hog | sed -n '/"limit": "memory"/,/}/s/.*"count": \([0-9]*\).*/\1/p' | head -n 1; }
ok "what meets a limit while no serve is there is told when one is" sh_ '
	systemctl stop jail && { su - hog -c "exec dd if=/dev/zero of=/dev/null bs=300M count=1"; [ $? = 137 ]; } && systemctl start jail'
ok "... once" eventually sh_ "$(declare -f met); n=\$(awk '\$1 == \"oom\" { print \$2 }' $all/jail-hog/memory.events); echo \"\$n, \$(met)\"; [ \$n -gt 0 ] && [ \"\$(met)\" = \$n ]"
ok "... and not again" sh_ "systemctl restart jail && su - hog -c true && $(declare -f met) && [ \$(met) = \$(awk '\$1 == \"oom\" { print \$2 }' $all/jail-hog/memory.events) ]"
ok "systemctl restart jail, twice" sh_ 'systemctl restart jail && systemctl restart jail'
ok "... the session goes on" answers three
ok "... in the same jail" says "$pid" first hog
ok "... with its limits" says "$hogs" limits_of $all/jail-hog
ok "... every process in its cgroup" says "" strays hog $all/jail-hog
ok "systemd's log has no left-over process" sh_ '! journalctl -u jail.service -u jail-all.service | grep -i left-over'
ok "daemon-reexec, and the limits stay" systemctl daemon-reexec
ok "... indeed" says "$hogs" limits_of $all/jail-hog
jail stop plain
ok "the process of jail-all.service is killed" sh_ 'kill -KILL $(systemctl show -P MainPID jail-all.service)'
sleep 1
ok "... the session goes on" answers four
ok "... a jail starts" says work su - plain -c "id -un"
ok "... with its cgroup" test -d $all/jail-plain
release
ok "jail stop --all" jail stop --all
ok "... nothing of the jails is left" eventually sh_ '! pgrep -f "^jail-init: " && ! ls -d /sys/fs/cgroup/system.slice/jail-all.service/jail-*'
ok "... jail-all.service comes back" eventually says active systemctl is-active jail-all.service
ok "... jail.service is there" eventually says active systemctl is-active jail.service
ok "... and a jail starts with its limits" sh_ '[ "$(su - hog -c "id -un")" = work ]'
ok "... indeed" says "$hogs" limits_of $all/jail-hog
systemctl stop jail.service
kill -KILL "$(first hog)"
ok "a jail that ended while there was no serve has left its cgroup" test -d $all/jail-hog
systemctl start jail.service
ok "... which the next one removes" test ! -e $all/jail-hog

echo "starts that fail"
mv /srv/jails/hog /srv/jails/away
ok "a jail without a rootfs does not start" status 125 su - hog -c true
ok "... and leaves nothing" gone hog
mv /srv/jails/away /srv/jails/hog
chmod 0 /srv/jails/hog/proc && rm -rf /srv/jails/hog/proc && touch /srv/jails/hog/proc
sleep 3
ok "a jail that fails half-way does not start" status 125 su - hog -c true
ok "... and leaves nothing" gone hog
rm /srv/jails/hog/proc && mkdir /srv/jails/hog/proc
ok "systemctl stop jail-all ends all jails, and serve" sh_ 'systemctl stop jail-all; [ "$(systemctl is-active jail.service)" = inactive ] && ! pgrep -f "^jail-init: "'
jail check >$dir/check 2>&1
ok "check says what cannot be kept now, and the line" grep -q 'hog.*fix: systemctl start jail-all.service' $dir/check
systemd-run -q --wait --pipe jail-init run hog >$dir/run 2>&1
ok "a start with limits fails, with a line that says why" sh_ "cat $dir/run; grep -q '^jail-init: jail hog: limits: they cannot be kept, since .*Delegate=yes.*systemctl start jail-all.service; or remove them' $dir/run"
ok "... and leaves nothing" gone hog
systemd-run -q --unit=try-run --property=Type=notify jail-init run calm
ok "one without limits starts all the same" says work su - calm -c 'id -un'
ok "... without a word of cgroups, since the kernel bounds its processes" sh_ '! journalctl -u try-run | grep "no limit on"'
systemctl stop try-run

echo "jail@61000.socket"
ok "systemctl start jail@61000.socket" systemctl start jail@61000.socket
ok "ssh starts the jail" says work su - hog -c "id -un"
ok "... with its limits, in the unit's own cgroup" says "$hogs" limits_of $one/jail-hog
hold hog
ok "... and so is every process" says "" strays hog $one/jail-hog
pid=$(first hog)
ok "a process that wants 300 MB of 128 is killed" status 137 su - hog -c 'exec dd if=/dev/zero of=/dev/null bs=300M count=1'
ok "... PID 1 lives on" says "$pid" first hog
ok "... and the other session" answers one
ok "... and the unit" says active systemctl is-active jail@61000.service
ok "the jail can be full" fill $one
ok "... a new session is refused with 125" status 125 su - hog -c true
ok "... PID 1 lives on" says "$pid" first hog
ok "systemctl stop jail@61000.service" systemctl stop jail@61000.service
ok "... leaves nothing" eventually gone hog
release
ok "the next login starts it again" says work su - hog -c "id -un"
ok "... with its limits" says "$hogs" limits_of $one/jail-hog
ok "jail-init run is killed" sh_ 'kill -KILL $(systemctl show -P MainPID jail@61000.service)'
ok "... the next login gets a fresh jail" eventually says work su - hog -c "id -un"
ok "... with its limits" says "$hogs" limits_of $one/jail-hog
systemctl stop jail@61000.socket
ok "stopping the socket leaves nothing" eventually gone hog

echo "the killer's choice"
systemctl start jail.service
mkdir -p /run/systemd/system/jail.service.d
printf '[Service]\nOOMScoreAdjust=-500\n' >/run/systemd/system/jail.service.d/try.conf
systemctl daemon-reload
systemctl restart jail.service
score() { cat "/proc/$1/oom_score_adj"; }
ok "serve is to be killed late (OOMScoreAdjust=-500)" says -500 score "$(systemctl show -P MainPID jail.service)"
ok "what else such a unit starts inherits that" says "-500 -500" systemd-run -q --wait --pipe -p OOMScoreAdjust=-500 \
	sh -c 'echo $(cat /proc/self/oom_score_adj; su admin -c "cat /proc/self/oom_score_adj")'
for user in hog plain; do
	ok "... a jail does not ($user)" says "0 0" su - $user -c 'echo $(cat /proc/1/oom_score_adj /proc/self/oom_score_adj)'
	ok "... nor can a tenant have it back" says 0 su - $user -c 'echo -1 >/proc/$$/oom_score_adj 2>/dev/null; cat /proc/$$/oom_score_adj'
	ok "... nor root inside" says 0 jail exec $user sh -c 'echo -1 >/proc/$$/oom_score_adj 2>/dev/null; cat /proc/$$/oom_score_adj'
	ok "... to be killed sooner can be had" says 7 su - $user -c 'echo 7 >/proc/$$/oom_score_adj; cat /proc/$$/oom_score_adj'
done
rm -r /run/systemd/system/jail.service.d
systemctl daemon-reload
systemctl restart jail.service

echo "a service that is out of memory"
cp /etc/jail/jail.toml $dir/jail.toml
cat >>/etc/jail/jail.toml <<-TOML
	[[jail.hog.service]]
	name    = "eats"
	exec    = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"]
	backoff = "1h"
TOML
ok "a jail has one that wants 300 MB of 128" sh_ 'jail reload && jail restart hog'
ok "... it is killed, and the log says why" eventually sh_ 'journalctl -u jail | grep -q "jail hog: service eats ended: signal 9 (out of memory) after .*, next start in 1h"'
ok "... a login is served" says work su - hog -c 'id -un'
cat $dir/jail.toml >/etc/jail/jail.toml
ok "... without it all is as before" sh_ 'jail reload && jail restart hog'

echo "a file system that does not answer"
modprobe loop
truncate -s 16M /srv/file-system
mkfs.ext4 -q /srv/file-system
mount -o loop /srv/file-system /srv/jails/dead
chmod 1777 /srv/jails/dead
jail stop plain
# dying prints the processes of the jail stuck that wait in the kernel.
dying() {
	local p
	while read -r p; do
		[ "$(awk '$1 == "State:" { print $2 }' "/proc/$p/status")" != D ] || echo "$p"
	done <$all/jail-stuck/cgroup.procs
}
hold calm
ok "a session of another jail is open" answers one
su - stuck -c 'exec sh -c "while :; do echo x; done" >/mnt/file' &
writer=$!
ok "a process of a jail writes to it" eventually test -s /srv/jails/dead/file
fsfreeze -f /srv/jails/dead
ok "... waits in the kernel when it is frozen" eventually sh_ "$(declare -f dying); all=$all; [ -n \"\$(dying)\" ]"
pid=$(dying)
start=$SECONDS
ok "... jail stop says that it does not end, and why" sh_ "
	out=\$(jail stop stuck 2>&1); status=\$?
	echo \"\$status \$out\"; [ \$status = 1 ] && [ \"\$out\" = 'jail-init: jail stuck does not end: process $pid (\"sh\", state D) cannot be killed: probably waiting for a file system or device that does not answer' ]"
ok "... within half a minute: $((SECONDS - start)) s" test $((SECONDS - start)) -le 30
wait $writer
ok "... its client has ended with 125: $?" test $? = 125
ok "... serve says the same" eventually sh_ "journalctl -u jail | grep -q 'jail stuck does not end: process $pid .*; its logins are refused until it has'"
ok "... a login to it is refused with 125 and a line" sh_ '
	out=$(timeout 30 ssh -F /root/ssh_config stuck@host true 2>&1 </dev/null); status=$?
	echo "$status $out"; [ $status = 125 ] && [ "$(echo "$out" | wc -l)" = 1 ]'
ok "... the other session goes on" answers two
ok "... another jail is open to logins" says work ssh_as calm id -un
ok "... a stopped one starts" says work su - plain -c "id -un"
ok "... and can be stopped" timeout 30 jail stop plain
ok "... so is the host" says admin ssh_as admin id -un
fsfreeze -u /srv/jails/dead
ok "when it answers again, the jail ends" eventually gone stuck
ok "... and starts again" eventually says work su - stuck -c 'id -un'
ok "... with its limit" says "max max max 100000 4104" limits_of $all/jail-stuck
su - stuck -c 'exec sh -c "while :; do echo x; done" >/mnt/file' &
writer=$!
fsfreeze -f /srv/jails/dead
eventually sh_ "$(declare -f dying); all=$all; [ -n \"\$(dying)\" ]"
ok "once more: jail stop says so" status 1 jail stop stuck
wait $writer
ok "... systemctl restart jail" timeout 30 systemctl restart jail.service
ok "... does not start it beside what is left" status 125 timeout 30 su - stuck -c true
ok "... and says why" sh_ 'journalctl -u jail | grep "jail stuck: start failed.* processes of an earlier run.* are in .*/jail-stuck"'
ok "... the other session goes on" answers three
fsfreeze -u /srv/jails/dead
ok "... it starts when nothing is" eventually says work su - stuck -c 'id -un'
ok "... with its limit" says "max max max 100000 4104" limits_of $all/jail-stuck
ok "... and the file system" su - stuck -c 'echo y >/mnt/file'
ok "... jail stop" jail stop stuck
ok "... leaves nothing that holds the file system" eventually umount /srv/jails/dead
release

if [ $failed != 0 ]; then
	journalctl -q --no-pager -o short-precise -u jail.service -u jail-all.service -u 'jail@*' | tail -n 120
fi
echo "END $failed"
