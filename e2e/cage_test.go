package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const cageHome = "/srv/people/caged"

// cage gives a test a serve with a cage of the host, for the login centos, around a home of
// its own.
func cage(t *testing.T, lines ...string) *server {
	t.Helper()
	alone(t)
	t.Cleanup(func() { require.NoError(t, errors.Join(os.RemoveAll(cageHome), os.RemoveAll("/run/jail/host/root"))) })
	require.NoError(t, os.MkdirAll(filepath.Join(cageHome, ".ssh"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(cageHome, ".ssh/authorized_keys"), []byte(contents(keyFile+".pub")), 0o600))
	require.NoError(t, command("chown", "-R", fmt.Sprintf("%d:%d", centos.id, centos.id), cageHome))
	s, err := serve(registry{
		text:  fmt.Sprintf("version = 1\n[jail.cage]\nrootfs = \"host\"\n%s\n[jail.cage.users.centos]\nhome = %q\n", strings.Join(lines, "\n"), cageHome),
		jails: []string{"cage"}, users: []account{centos},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	return s
}

// plant puts a file where there may be no directory yet, and takes away afterwards what was
// not there.
func plant(t *testing.T, path, text string) {
	t.Helper()
	fresh := path
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err != nil {
			fresh = dir
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	if _, err := os.Lstat(path); err == nil {
		put(t, path, text)
		return
	}
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(fresh)) })
}

// inCage runs a command in the cage as the tenant, by ssh, or as root, by the
// administrator's exec.
func inCage(t *testing.T, who identity, cmd string) result {
	t.Helper()
	if who == root {
		return runCommand(t, exec.Command(initPath, "exec", "cage", "sh", "-c", cmd), nil)
	}
	return run(t, forced, ask{as: centos, cmd: cmd})
}

// TestCage: a login by ssh and by su lands in the host's own userland, with its home and
// nothing of others.
func TestCage(t *testing.T) {
	plant(t, "/var/log/shown/file", "shown\n")
	cage(t, `show = ["/var/log/shown"]`, `hide = ["/usr/games"]`)
	where := "centos " + cageHome + " cage\n"
	cmd := "echo $(id -un) $PWD $(hostname -f)"
	assert.Equal(t, result{stdout: where}, run(t, forced, ask{as: centos, cmd: cmd}), "by ssh")
	assert.Equal(t, result{stdout: where}, runCommand(t, exec.Command("su", "-", centos.login, "-c", cmd), nil), "by su")
	var script, want strings.Builder
	for _, row := range []struct{ cmd, want string }{
		{"ls -A /home /root /srv/people 2>/dev/null", "/home:\n\n/srv/people:\ncaged\n"},
		{"cut -d: -f1 /etc/passwd | tr '\\n' ' '", "root daemon bin sys man mail nobody centos "},
		{"echo new >file; cat file /var/log/shown/file", "new\nshown\n"},
		{"ls -A /usr/games /usr/src", "/usr/games:\n\n/usr/src:\n"},
		{"cat /etc/machine-id", ""},
		{"readlink /etc/localtime; date +%Z", contentsOf(t, "readlink /etc/localtime; date +%Z")},
		{"for f in /usr/x /etc/x /var/log/shown/x /x /usr/src/x; do (: >$f) 2>/dev/null && echo $f; done", ""},
	} {
		script.WriteString(row.cmd + "\necho ---\n")
		want.WriteString(row.want + "---\n")
	}
	assert.Equal(t, want.String(), run(t, forced, ask{as: centos, cmd: script.String()}).stdout)
	// The host is upgraded under the cage that runs.
	plant(t, "/usr/local/bin/fresh", "#!/bin/sh\necho fresh\n")
	require.NoError(t, os.Chmod("/usr/local/bin/fresh", 0o755))
	plant(t, "/etc/profile.d/fresh.sh", "")
	assert.Equal(t, "fresh\n", run(t, forced, ask{as: centos, cmd: "fresh"}).stdout)
	eventually(t, "/etc follows", func() bool {
		return run(t, forced, ask{as: centos, cmd: "test -e /etc/profile.d/fresh.sh"}).status == 0
	})
}

// TestCageOnFUSE: a home that is a FUSE mount, whose ids cannot be mapped, is one where the
// login keeps its own.
func TestCageOnFUSE(t *testing.T) {
	cage(t, `userns = "keep"`)
	const behind = "/srv/people/behind"
	server := filepath.Join(t.TempDir(), "server")
	require.NoError(t, os.Rename(cageHome, behind))
	require.NoError(t, os.Mkdir(cageHome, 0o755))
	require.NoError(t, os.WriteFile(server, fmt.Appendf(nil, "#!/bin/sh\nexec setpriv --reuid=%[1]d --regid=%[1]d --clear-groups /usr/lib/openssh/sftp-server\n", centos.id), 0o755))
	require.NoError(t, command("sshfs", "-o", "allow_other,default_permissions,ssh_command="+server, "any:"+behind, cageHome))
	t.Cleanup(func() {
		require.NoError(t, errors.Join(command(initPath, "stop", "cage"), command("fusermount3", "-u", cageHome), os.RemoveAll(behind)))
	})
	assert.Equal(t, result{stdout: "centos\nmine\n"}, run(t, forced, ask{as: centos, cmd: "echo mine >file; stat -c %U file; cat file"}))
	assert.Equal(t, "mine\n", contents(behind+"/file"))
}

func contentsOf(t *testing.T, cmd string) string {
	t.Helper()
	return runCommand(t, exec.Command("sh", "-c", cmd), nil).stdout
}

// golden is what a host with ordinary servers has that everybody there may read, by a
// mistake or because nobody thinks of it. None is visible in a cage.
var golden = []string{
	"/etc/nginx/conf.d/site.conf", "/etc/postgresql/15/main/pg_hba.conf", "/etc/exim4/passwd.client", "/etc/mysql/debian.cnf",
	"/etc/letsencrypt/live/example/privkey.pem", "/etc/ssl/private/site.pem", "/etc/ssl/certs/site.key", "/etc/apt/auth.conf",
	"/etc/wordpress/config.php", "/etc/cron.d/backup", "/etc/fstab", "/etc/ssh/sshd_config.d/local.conf", "/etc/pam.d/local",
	"/etc/nginx/nginx.conf", "/etc/nginx/sites-enabled/site", "/etc/nginx/ssl/site.key", "/etc/apache2/sites-enabled/site.conf", "/etc/apache2/.htpasswd",
	"/etc/postgresql/15/main/postgresql.conf", "/etc/postgresql-common/user_clusters", "/etc/exim4/exim4.conf.template", "/etc/exim4/dkim.private",
	"/etc/letsencrypt/archive/example/privkey1.pem", "/etc/letsencrypt/accounts/acme/private_key.json", "/etc/letsencrypt/renewal/example.conf",
	"/etc/redis/redis.conf", "/etc/dovecot/conf.d/10-auth.conf", "/etc/postfix/sasl_passwd", "/etc/msmtprc", "/etc/netrc", "/etc/openvpn/client.ovpn", "/etc/wireguard/wg0.conf",
	"/etc/pki/tls/private/site.pem", "/etc/mysql/conf.d/galera.cnf", "/etc/mysql/mariadb.conf.d/60-galera.cnf", "/etc/php/8.2/fpm/pool.d/site.conf", "/var/log/nginx/access.log", "/run/postgresql/.s.PGSQL.5432.lock", "/run/exim4/exim.pid",
	"/etc/sudoers.d/local", "/etc/shadow-", "/etc/jail/note", "/etc/krb5.keytab", "/etc/default/backup",
	"/var/log/mail.log", "/var/lib/jail/note", "/srv/people/other/public.txt", "/srv/backup.sql", "/run/user/1/secret",
	"/opt/app/.env", "/boot/loader/secret", "/media/disk/secret", "/var/backups/dump.sql", "/var/mail/other", "/var/spool/cron/crontabs/other",
	"/etc/ssl/certs/behind-a-certificate.pem", "/etc/opt/app.conf", "/etc/xinetd.conf", "/etc/docker/daemon.json", "/etc/containers/auth.json", "/etc/netplan/wifi.yaml",
	"/etc/NetworkManager/system-connections/wifi", "/etc/systemd/network/wg.netdev", "/etc/samba/smbpasswd", "/etc/ldap.secret", "/etc/sssd/sssd.conf", "/etc/crypttab", "/etc/libvirt/qemu.conf",
	"/usr/src/site/settings.py", "/usr/local/cpanel/whostmgr/token", "/usr/local/psa/admin/conf/panel.ini",
}

// TestSecretsBehindACage plants what must not be seen, and what root alone may read among
// the programs, then looks for it as the tenant and as uid 0 inside.
func TestSecretsBehindACage(t *testing.T) {
	const planted = "planted-4b1d"
	for _, dir := range []string{"/opt", "/boot", "/media", "/var/backups", "/var/mail", "/var/spool"} {
		require.NoError(t, empty(dir, 0o755))
		t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	}
	for _, path := range golden {
		text := planted + "\n"
		if strings.HasPrefix(path, "/etc/ssl/certs/behind") { // which everybody is to read
			text = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n" + text
		}
		plant(t, path, text)
	}
	closed := map[string]os.FileMode{"/usr/share/closed-0600": 0o600, "/usr/local/share/closed-0640": 0o640}
	for path, mode := range closed {
		plant(t, path, planted+"\n")
		require.NoError(t, os.Chmod(path, mode))
	}
	cage(t)
	names := strings.Join(golden, " ")
	readable := strings.Fields(contents("testdata/readable-in-a-cage"))
	// Under its own name and, the text not being in the command, under any other.
	search := "ls -d " + names + " 2>/dev/null; grep -rsl 'planted-[4]b1d' /boot /etc /home /media /mnt /opt /root /run /srv /tmp /usr/src /usr/local/cpanel /usr/local/psa " +
		"/usr/share/closed* /usr/local/share/closed* /var"
	for _, who := range identities {
		assert.Empty(t, inCage(t, who, search).stdout, who.name)
		for path := range closed {
			r := inCage(t, who, "test -e "+path+" && echo there; cat "+path)
			assert.Equal(t, "there\n", r.stdout, "%s: %s", who.name, path)
			assert.NotZero(t, r.status)
		}
	}
	// And whatever else there is to be read beside the programs is in a list that people have read.
	for _, who := range identities {
		seen := inCage(t, who, "find / -path /proc -prune -o -path /usr -prune -o -xtype f -readable -print").stdout
		assert.NotEmpty(t, seen)
		for path := range strings.Lines(seen) {
			path = strings.TrimSuffix(path, "\n")
			assert.True(t, slices.ContainsFunc(readable, func(pattern string) bool {
				pattern, below := strings.CutSuffix(pattern, "/**")
				name := path
				if below { // everything in a directory
					name = strings.Join(strings.SplitN(path, "/", strings.Count(pattern, "/")+2)[:strings.Count(pattern, "/")+1], "/")
				}
				match, err := filepath.Match(pattern, name)
				require.NoError(t, err)
				return match
			}), "%s: %s is in no line of testdata/readable-in-a-cage", who.name, path)
		}
	}
	assert.Equal(t, strings.ReplaceAll(names, " ", "\n")+"\n", contentsOf(t, "grep -l 'planted-[4]b1d' "+names), "on the host they are there")
}

// TestAttackOnACage: everything e2e/attack knows fails in a cage, too.
func TestAttackOnACage(t *testing.T) {
	cage(t)
	p := newPrey(t)
	for name, mode := range map[string]string{"attack": "0755", "suid": "4755"} {
		path := "/usr/local/bin/" + name
		require.NoError(t, command("install", "-m", mode, filepath.Join(world.scratch, "bin/attack"), path))
		t.Cleanup(func() { os.Remove(path) })
	}
	before := hostPrograms(t)
	for _, who := range identities {
		r := inCage(t, who, attackPath+" "+strings.Join(p.args(who, "all"), " "))
		got := verdicts(t, r.stdout)
		assert.GreaterOrEqual(t, len(got), len(attackRows), "%s", r.stderr)
		for name, v := range got {
			assert.False(t, v.got, "%s as %s: %s", name, who.name, v)
		}
	}
	assert.Equal(t, before, hostPrograms(t))
}

// TestCageOfAnUnmergedHost: a host whose /bin and /lib are directories of their own, on
// overlayfs, is one to make cages of: they have all of it, and nothing more.
func TestCageOfAnUnmergedHost(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	host, memory, home := filepath.Join(dir, "host"), filepath.Join(dir, "memory"), filepath.Join(dir, "people/caged")
	for _, d := range []string{host, memory, home} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	require.NoError(t, empty(memory, 0o755))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(memory, 0)) })
	for _, d := range []string{"upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(memory, d), 0o755))
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", filepath.Join(world.scratch, "kept.d/debian"), memory)
	require.NoError(t, unix.Mount("overlay", host, "overlay", 0, layers))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(host, 0)) })
	require.NoError(t, command("bash", "testdata/userland/unmerge.sh", host))
	for name, path := range programs() {
		require.NoError(t, command("install", "-D", "-m", "0755", filepath.Join(world.scratch, "bin", name), filepath.Join(host, path)))
	}
	at := func(path string) string { return filepath.Join(host, path) }
	require.NoError(t, command("cp", filepath.Join(busyboxRoot, "bin/busybox"), at("/bin")))
	require.NoError(t, appendFile(at("/etc/passwd"), fmt.Sprintf("caged:x:%d:%[1]d::/srv/people/caged:%s\n", centos.id, enterPath)))
	require.NoError(t, appendFile(at("/etc/shadow"), "caged:*:19000:0:99999:7:::\n"))
	require.NoError(t, appendFile(at("/etc/group"), fmt.Sprintf("caged:x:%d:\n", centos.id)))
	require.NoError(t, os.MkdirAll(at("/etc/jail"), 0o755))
	require.NoError(t, os.WriteFile(at("/etc/jail/jail.toml"), []byte("version = 1\n[jail.caged]\nrootfs = \"host\"\nusers = [\"caged\"]\n"), 0o644))
	for path, mode := range map[string]os.FileMode{"/lib/closed": 0o600, "/bin/elevate": 0o755 | os.ModeSetuid} {
		require.NoError(t, command("cp", at("/bin/cat"), at(path)))
		require.NoError(t, os.Chmod(at(path), mode))
	}
	require.NoError(t, os.Mkdir(filepath.Join(home, ".ssh"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh/authorized_keys"), []byte(contents(keyFile+".pub")), 0o600))
	require.NoError(t, command("chown", "-R", fmt.Sprintf("%d:%[1]d", centos.id), home))

	// The script's root is this host, as if it had been booted: a chroot could make no user
	// namespaces (user_namespaces(7)).
	script := `
		cd HOST
		mount --rbind PEOPLE srv
		mount -t proc proc proc
		mount --rbind /dev dev
		mount -t tmpfs -o mode=755 tmpfs run
		pivot_root . mnt
		busybox umount -l /mnt
		mkdir /run/sshd /srv/none
		{ jail-init serve & } 2>/run/log
		for i in $(seq 300); do [ -S /run/jail/UID/sock ] && break; sleep 0.1; done
		KEYS --forced caged | grep -c 'ssh-ed25519'
		inside() { su - caged -c "$1"; }
		for d in bin sbin lib lib64; do echo $d $(ls -ldA /$d | cut -c1) $(cd /$d && find . | sort | md5sum) ; done >/run/outside
		inside 'for d in bin sbin lib lib64; do echo $d $(ls -ldA /$d | cut -c1) $(cd /$d && find . 2>/dev/null | sort | md5sum); done' | diff /run/outside - && echo same
		inside 'command -v ls env; test ! -e /usr/bin/ls && id -un; pwd'
		inside 'echo mine >file; for f in /bin/x /lib/x /lib64/x /usr/x; do (: >$f) 2>/dev/null && echo written: $f; done; ls -A /srv/people /home'
		inside 'cat /lib/closed >/dev/null 2>&1 || echo closed; grep -c " /\\(bin\\|lib\\|sbin\\|lib64\\|usr\\) .*ro,nosuid,nodev" /proc/self/mountinfo; stat -c %U /bin/elevate'
		jail-init exec caged sh -c 'cat /lib/closed >/dev/null 2>&1 || echo closed to uid 0, too'
		jail-init check | grep '^error' || :
		jail-init stop caged >/dev/null
		kill %1
		wait
	`
	script = strings.NewReplacer("HOST", host, "PEOPLE", filepath.Dir(filepath.Dir(home)), "UID", fmt.Sprint(centos.id), "KEYS", keysPath).Replace(script)
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	got := runCommand(t, cmd, nil)
	assert.Equal(t, "1\nsame\n/bin/ls\n/usr/bin/env\ncaged\n/srv/people/caged\n/home:\n\n/srv/people:\ncaged\nclosed\n5\nnobody\nclosed to uid 0, too\n", got.stdout, "%s", got.stderr)
	assert.Zero(t, got.status)
	assert.Equal(t, "mine\n", contents(filepath.Join(home, "file")))
}
