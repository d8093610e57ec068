# shellcheck shell=bash disable=SC2016,SC2086 # expanded inside a jail; names of ours have no blanks
# How inside.sh and network.sh say what is so; sourced by them, in the machine of try-vm.sh.
: "${dir:?where files may be made}" "${failed:?how many facts are not so}"

# ok WHAT COMMAND... prints whether COMMAND succeeds.
ok() {
	local what=$1
	shift
	if "$@" >$dir/out 2>&1; then
		echo "ok      $what"
	else
		echo "NOT OK  $what"
		sed 's/^/        /' $dir/out | tail -n 150
		failed=$((failed + 1))
	fi
}
# A shell, where a fact takes more than a command.
sh_() { bash -uo pipefail -c "$1"; }
says() { # says TEXT COMMAND...: the output of COMMAND is TEXT
	local want=$1 got
	shift
	got=$("$@") || { echo "status $?: $got"; return 1; }
	[ "$got" = "$want" ] || { echo "\"$got\" instead of \"$want\""; return 1; }
}
status() { # status N COMMAND...: COMMAND ends with status N
	local want=$1 got=0
	shift
	"$@" || got=$?
	[ $got = "$want" ] || { echo "status $got instead of $want"; return 1; }
}
eventually() {
	for _ in {1..150}; do
		if "$@"; then return 0; fi
		sleep 0.2
	done
	return 1
}
ssh_as() {
	local login=$1
	shift
	timeout 60 ssh -F /root/ssh_config "$login@host" "$@" </dev/null
}
# e2e TEST runs a test of the package e2e and prints what has not passed. The test has
# accounts of its own, of the uids that ours have.
e2e() {
	local status=0 file
	for file in passwd shadow group; do
		install -m "$(stat -c %a /etc/$file)" /etc/$file $dir/$file
		sed -i -E '/^(hog|calm|plain|stuck):/d' $dir/$file
	done
	unshare --mount sh -c 'for file in passwd shadow group; do mount --bind /run/try/$file /etc/$file || exit 1; done
		cd /root/tests && JAIL_TEST_BIN=$PWD/bin JAIL_TEST_TREES=$PWD/trees JAIL_TEST_MUST_RUN=1 \
			exec ./e2e.test -test.run "^$1\$" -test.v -test.timeout 30m' sh "$1" >$dir/test 2>&1 || status=$?
	grep -v -e '--- PASS' -e '^=== ' $dir/test
	return $status
}
