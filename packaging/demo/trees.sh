# shellcheck shell=bash
# Root file systems to try jails with; sourced by demo.sh and try-nspawn.sh.
# They are made in build/trees, once, and copied from there.

: "${top:?the directory of the project}"
suite=bookworm

# kept NAME MMDEBSTRAP-ARGUMENT... prints where a Debian tree is, and makes it if
# it is not there yet.
kept() {
	local tree=$top/build/trees/$1
	shift
	if [ ! -d "$tree" ]; then
		echo "making $tree, once (mmdebstrap, some minutes)" >&2
		mkdir -p "$top/build/trees"
		chmod 700 "$top/build/trees"
		# One makes it, who comes meanwhile waits; what was half made is made anew.
		(
			flock 9
			if [ ! -d "$tree" ]; then
				rm -rf --one-file-system "$tree.new"
				mmdebstrap --quiet --variant=minbase "$@" $suite "$tree.new" >&2 && mv "$tree.new" "$tree"
			fi
		) 9>"$tree.lock" || return
	fi
	echo "$tree"
}

# add_user TREE UID SHELL KEY: the account "work" as it is inside.
add_user() {
	local home=$1/home/work
	printf 'work:x:%d:%d::/home/work:%s\n' "$2" "$2" "$3" >>"$1/etc/passwd"
	printf 'work:*:19000:0:99999:7:::\n' >>"$1/etc/shadow"
	printf 'work:x:%d:\n' "$2" >>"$1/etc/group"
	if [ -d "$1/etc/skel" ]; then cp -aT "$1/etc/skel" "$home"; fi
	mkdir -p "$home/.ssh"
	cp "$4" "$home/.ssh/authorized_keys"
	chmod 700 "$home/.ssh"
	chown -R "$2:$2" "$home"
}

# make_debian TREE UID KEY
make_debian() {
	local tree
	tree=$(kept demo-debian --include=procps)
	cp -a --reflink=auto "$tree" "$1"
	add_user "$1" "$2" /bin/bash "$3"
}

# make_home DIR UID KEY: a home on the host.
make_home() {
	mkdir -p "$1/.ssh"
	cp "$3" "$1/.ssh/authorized_keys"
	chmod 700 "$1" "$1/.ssh"
	chown -R "$2:$2" "$1"
}

# make_busybox TREE UID KEY
make_busybox() {
	mkdir -p "$1"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,var/tmp}
	chmod 1777 "$1/tmp" "$1/var/tmp"
	cp "$(command -v busybox)" "$1/bin/busybox"
	chroot "$1" /bin/busybox --install -s /bin
	printf 'A very small CentOS \\n \\l\n' >"$1/etc/issue"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$1/etc/passwd"
	printf 'root:*:19000:0:99999:7:::\n' >"$1/etc/shadow"
	printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' >"$1/etc/group"
	# shellcheck disable=SC2016 # the shell inside is to expand it
	printf 'PS1="\\u@\\h:\\w\\$ "\n' >"$1/etc/profile"
	add_user "$1" "$2" /bin/sh "$3"
}
