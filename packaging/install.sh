#!/bin/bash
# make install: install.sh DESTDIR PREFIX UNITDIR TMPFILESDIR SYSUSERSDIR ZSHDIR, from bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
destdir=$1 prefix=$2 unitdir=$3 tmpfilesdir=$4 sysusersdir=$5 zshdir=$6
[[ $prefix == /* ]] || { echo "install: PREFIX=$prefix: must be an absolute path" >&2; exit 64; }

doc=$prefix/share/doc/jail

# put FILE TARGET MODE: below DESTDIR, and with the paths PREFIX means in it.
put() {
	install -D -m "$3" "$1" "$destdir$2"
	case $1 in
	packaging/* | */50-jail.conf | docs/man/*)
		[ "$prefix" = /usr ] || sed -i -E "s,/usr/(bin/jail-enter|sbin/jail-init|lib/jail/jail-keys|lib/jail/pid1|lib/jail/sftp-server|lib/jail/import|lib/jail/net|share/doc/jail),$prefix/\1,g" "$destdir$2"
		;;
	esac
}

put bin/jail-enter "$prefix/bin/jail-enter" 755
put bin/jail-init "$prefix/sbin/jail-init" 755
put bin/jail-keys "$prefix/lib/jail/jail-keys" 755
put bin/jail-pid1 "$prefix/lib/jail/pid1" 755
put bin/jail-sftp-server "$prefix/lib/jail/sftp-server" 755
put bin/jail-import "$prefix/lib/jail/import" 755
put bin/jail-net "$prefix/lib/jail/net" 755
ln -sfn ../sbin/jail-init "$destdir$prefix/bin/jail" # where ordinary users find it

put config/examples/jail.toml "$doc/examples/jail.toml" 644
put config/examples/sshd_config.d/50-jail.conf "$doc/examples/sshd_config.d/50-jail.conf" 644
put packaging/apparmor/jail-init "$doc/examples/apparmor.d/jail-init" 644
for f in packaging/selinux/jail.{te,fc}; do
	put "$f" "$doc/examples/selinux/${f##*/}" 644
done
for f in README.md SECURITY.md CHANGELOG.md LICENSE; do
	[ ! -e $f ] || put $f "$doc/$f" 644
done
for f in docs/*.md; do
	put "$f" "$doc/$(basename "$f")" 644
done
for f in docs/man/*.[1-9]; do
	put "$f" "$prefix/share/man/man${f##*.}/$(basename "$f")" 644
done

for f in packaging/systemd/*.{service,socket}; do
	put "$f" "$unitdir/$(basename "$f")" 644
done
# What journalctl -x says; journalctl --update-catalog has it find that.
put packaging/jail.catalog "$prefix/lib/systemd/catalog/jail.catalog" 644
put packaging/tmpfiles.d/jail.conf "$tmpfilesdir/jail.conf" 644
put packaging/sysusers.d/jail.conf "$sysusersdir/jail.conf" 644

# Where each shell looks for what completes a command of that name.
shells=$prefix/share
put packaging/completions/jail.bash "$shells/bash-completion/completions/jail" 644
put packaging/completions/jail.fish "$shells/fish/vendor_completions.d/jail.fish" 644
put packaging/completions/_jail "$zshdir/_jail" 644
ln -sfn jail "$destdir$shells/bash-completion/completions/jail-init"
ln -sfn jail.fish "$destdir$shells/fish/vendor_completions.d/jail-init.fish"

# What the administrator fills, and the home of every jailed account with what
# sshd wants in it (packaging/tmpfiles.d/jail.conf).
install -d -m 755 "$destdir/etc/jail" "$destdir/etc/jail/jail.d" "$destdir/var/lib/jail" "$destdir"/var/lib/jail/empty-home{,/.ssh}
install -d -m 1777 "$destdir/var/lib/jail/empty-home/.ssh/agent"
