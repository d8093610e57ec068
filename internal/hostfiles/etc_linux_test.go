package hostfiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// etcOf is an /etc with something of each kind in it.
func etcOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "etc")
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"nsswitch.conf":              {"passwd: files\n", 0o644},
		"profile":                    {"umask 022\n", 0o640}, // not everybody's
		"profile.d/a.sh":             {"a", 0o755},
		"profile.d/secret.sh":        {"PASSWORD=x", 0o600},
		"profile.d/server.key":       {"key", 0o644},
		"profile.d/closed/b.sh":      {"b", 0o644},
		"ssl/certs/ca.pem":           {"cert", 0o644},
		"ssl/private/host.pem":       {"key", 0o644},
		"ssl/certs/both.pem":         {"-----BEGIN CERTIFICATE-----\nx\n-----BEGIN EC PRIVATE KEY-----\nx\n", 0o644},
		"profile.d/key":              {"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", 0o644},
		"ssh/ssh_config":             {"Host *\n", 0o644},
		"ssh/sshd_config":            {"Port 22\n", 0o644},
		"python3.11/x.py":            {"x", 0o644},
		"passwd":                     {"alice:x:1000:1000::/home/alice:/bin/sh\n", 0o644},
		"group":                      {"alice:x:1000:\n", 0o644},
		"hosts":                      {"10.0.0.1 database\n", 0o644},
		"shadow":                     {"alice:$y$\n", 0o644}, // a mistake of the administrator's
		"machine-id":                 {"0123\n", 0o444},
		"mysql/debian.cnf":           {"password=x\n", 0o644},
		"mysql/conf.d/mysql.cnf":     {"[client]\n", 0o644},
		"mysql/conf.d/galera.cnf":    {"wsrep_sst_auth=a:b\n", 0o644},
		"php/8.2/cli/conf.d/a.ini":   {"a", 0o644},
		"php/8.2/fpm/pool.d/a.conf":  {"env[PASSWORD] = a\n", 0o644},
		"pki/tls/certs/a.crt":        {"cert", 0o644},
		"pki/tls/private/a.pem":      {"key", 0o644},
		"letsencrypt/live/a/key.pem": {"key", 0o644},
		"unknown.conf":               {"x", 0o644},
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(f.text), f.mode))
		require.NoError(t, os.Chmod(path, f.mode))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "profile.d/closed"), 0o700))
	require.NoError(t, os.Symlink("../usr/lib/os-release", filepath.Join(dir, "os-release")))
	require.NoError(t, os.Symlink("/etc/shadow", filepath.Join(dir, "profile.d/link")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "profile.d/fifo"), 0o644))
	return dir
}

// listed are the names below a directory, without directories.
func listed(t *testing.T, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	slices.Sort(names)
	return names
}

// TestEtcOfCages: what is not named, and what not everybody may read, is not there.
func TestEtcOfCages(t *testing.T) {
	from, runtime := etcOf(t), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(runtime, "host"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(runtime, "host/resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644))
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	e, err := followEtc(runtime, from, func(err error) { t.Error(err) })
	require.NoError(t, err)
	defer e.Close()
	assert.Equal(t, []string{
		"group", "hostname", "hosts", "machine-id", "mtab", "mysql/conf.d/mysql.cnf", "nsswitch.conf", "os-release", "passwd",
		"php/8.2/cli/conf.d/a.ini", "pki/tls/certs/a.crt", "profile.d/a.sh", "profile.d/link", "python3.11/x.py", "resolv.conf", "ssh/ssh_config", "ssl/certs/ca.pem",
	}, listed(t, e.to))
	for name, want := range map[string]string{
		"passwd": "../dev/jail/etc/passwd", "hosts": "../dev/jail/etc/hosts", "os-release": "../usr/lib/os-release",
		"profile.d/link": "/etc/shadow", "mtab": "../proc/self/mounts",
	} {
		got, err := os.Readlink(filepath.Join(e.to, name))
		assert.NoError(t, err)
		assert.Equal(t, want, got, "a link is a link")
	}
	require.NoError(t, filepath.WalkDir(e.to, func(path string, d fs.DirEntry, err error) error {
		is, _ := d.Info()
		switch {
		case is.IsDir():
			assert.Equal(t, os.FileMode(0o755), is.Mode().Perm(), path)
		case is.Mode().IsRegular() && is.Name() != "resolv.conf":
			assert.Equal(t, os.FileMode(0o444), is.Mode().Perm()&0o666, path)
		}
		return err
	}))
	text, err := os.ReadFile(filepath.Join(e.to, "machine-id"))
	require.NoError(t, err)
	assert.Empty(t, text)
	resolver, err := os.OpenFile(filepath.Join(runtime, "host/resolv.conf"), os.O_WRONLY|os.O_TRUNC, 0)
	require.NoError(t, err)
	_, err = resolver.WriteString("nameserver 127.0.0.2\n")
	require.NoError(t, errors.Join(err, resolver.Close()))
	text, err = os.ReadFile(filepath.Join(e.to, "resolv.conf"))
	require.NoError(t, err)
	assert.Equal(t, "nameserver 127.0.0.2\n", string(text), "it is the file that follows the host")
}

// TestEtcFollows: a change of the host's is seen, in the directory that was there before,
// and what is closed or removed there goes.
func TestEtcFollows(t *testing.T) {
	from, runtime := etcOf(t), t.TempDir()
	e, err := followEtc(runtime, from, func(err error) { t.Error(err) })
	require.NoError(t, err)
	defer e.Close()
	var before, after syscall.Stat_t
	require.NoError(t, syscall.Stat(e.to, &before))
	kept, err := os.Stat(filepath.Join(e.to, "nsswitch.conf"))
	require.NoError(t, err)
	for claim, act := range map[string]struct {
		do   func() error
		want func() bool
	}{
		"a file is replaced": {
			func() error {
				err := os.WriteFile(filepath.Join(from, "x"), []byte("new"), 0o644)
				return errors.Join(err, os.Rename(filepath.Join(from, "x"), filepath.Join(from, "profile.d/a.sh")))
			},
			func() bool {
				text, _ := os.ReadFile(filepath.Join(e.to, "profile.d/a.sh"))
				return string(text) == "new"
			},
		},
		"a file is closed": {
			func() error { return os.Chmod(filepath.Join(from, "ssl/certs/ca.pem"), 0o600) },
			func() bool { _, err := os.Lstat(filepath.Join(e.to, "ssl/certs/ca.pem")); return os.IsNotExist(err) },
		},
		"a directory comes": {
			func() error {
				return errors.Join(os.Mkdir(filepath.Join(from, "vim"), 0o755), os.WriteFile(filepath.Join(from, "vim/vimrc"), []byte("v"), 0o644))
			},
			func() bool { text, _ := os.ReadFile(filepath.Join(e.to, "vim/vimrc")); return string(text) == "v" },
		},
		"a directory goes": {
			func() error { return os.RemoveAll(filepath.Join(from, "python3.11")) },
			func() bool { _, err := os.Lstat(filepath.Join(e.to, "python3.11")); return os.IsNotExist(err) },
		},
		"a directory becomes a link": {
			func() error {
				return errors.Join(os.RemoveAll(filepath.Join(from, "mysql")), os.Symlink("elsewhere", filepath.Join(from, "mysql")))
			},
			func() bool { _, err := os.Lstat(filepath.Join(e.to, "mysql/conf.d")); return err != nil },
		},
	} {
		require.NoError(t, act.do(), claim)
		require.Eventually(t, act.want, 10*time.Second, 20*time.Millisecond, claim)
	}
	require.NoError(t, syscall.Stat(e.to, &after))
	assert.Equal(t, before.Ino, after.Ino)
	now, err := os.Stat(filepath.Join(e.to, "nsswitch.conf"))
	require.NoError(t, err)
	assert.True(t, os.SameFile(kept, now), "what has not changed is not copied again")
}
