package audit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/needs"
)

// wrapSSHD makes a program that runs the real sshd in a mount namespace of its
// own, with the directory it insists on and an account "alice" of group "jailed".
func wrapSSHD(t *testing.T, sshd string) string {
	return wrapSSHDWith(t, sshd, "alice:x:2001:2001::/var/lib/jail/empty-home:/usr/bin/jail-enter\n", "jailed:x:2900:alice\n")
}

// wrapSSHDWith is wrapSSHD with other accounts.
func wrapSSHDWith(t *testing.T, sshd, passwd, group string) string {
	p := filepath.Join(t.TempDir(), "sshd")
	require.NoError(t, os.WriteFile(p+".passwd", []byte(passwd), 0o644))
	require.NoError(t, os.WriteFile(p+".group", []byte(group), 0o644))
	require.NoError(t, os.WriteFile(p, []byte(`#!/bin/sh
exec unshare -m --propagation private sh -c '
mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd || exit 1
cat /etc/passwd '`+p+`'.passwd >/run/passwd
cat /etc/group '`+p+`'.group >/run/group
mount --bind /run/passwd /etc/passwd && mount --bind /run/group /etc/group || exit 1
exec "$0" "$@"' `+sshd+` "$@"
`), 0o755))
	return p
}

func TestRealSSHD(t *testing.T) {
	needs.Root(t, "sshd -T reads host keys")
	sshd := needs.Program(t, "/usr/sbin/sshd")
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	require.NoError(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	example, err := os.ReadFile("../../config/examples/sshd_config.d/50-jail.conf")
	require.NoError(t, err)

	audit := func(conf string) []Finding {
		file := filepath.Join(dir, "sshd_config")
		require.NoError(t, os.WriteFile(file, []byte("HostKey "+key+"\nUsePAM yes\nX11Forwarding yes\nSubsystem sftp internal-sftp\n"+conf), 0o600))
		w := newWorld(t)
		return Run(&config.Registry{Jails: w.jails}, Options{
			Passwd:     []byte("alice:x:2001:2001::/var/lib/jail/empty-home:/usr/bin/jail-enter\n"),
			Group:      []byte("jailed:x:2900:alice\n"),
			Shadow:     []byte("alice:!:19000:0:99999:7:::\n"),
			SSHD:       wrapSSHD(t, sshd),
			SSHDConfig: file,
			JailEnter:  []string{"/usr/bin/jail-enter"},
			JailKeys:   "/usr/lib/jail/jail-keys",
			Kernel:     &Kernel{Release: "6.12.0", LandlockABI: 6, Cgroups: "/sys/fs/cgroup/x", Controllers: []string{"cpu", "memory", "pids"}},
			files:      w.files,
		})
	}

	t.Run("the example leaves nothing but notes", func(t *testing.T) {
		found := audit(string(example))
		require.NotEmpty(t, found)
		assert.Equal(t, Note, found[0].Severity, lines(found))
		assert.Contains(t, lines(found), "PasswordAuthentication yes")
	})
	t.Run("without the example the host's files are open", func(t *testing.T) {
		found := lines(audit(""))
		assert.Equal(t, 1, strings.Count(found, "error: "), found)
		assert.Contains(t, found, "error: alice: sshd_config: the block for jails is not installed")
		found = lines(audit("AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k\nAuthorizedKeysCommandUser root\n"))
		assert.Contains(t, found, "error: alice: sshd_config, ForceCommand none: the sftp subsystem is sshd's own")
		assert.Contains(t, found, "error: alice: sshd_config, AllowStreamLocalForwarding yes:")
	})
	t.Run("a broken configuration is one warning with its first line", func(t *testing.T) {
		found := lines(audit("Nonsense yes\n"))
		assert.Equal(t, 1, strings.Count(found, "warning: "), found)
		assert.Contains(t, found, "line 5: Bad configuration option: Nonsense")
	})
}

func TestHostFiles(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "etc/pam.d"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "home"), 0o755))
	require.NoError(t, os.Symlink("/home", filepath.Join(root, "people")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "home/f"), []byte("text"), 0o640))
	f := hostFiles(root)

	got := walk(f, "/people/../people/./f")
	require.NoError(t, got.err)
	assert.Equal(t, "/home/f", got.real)
	assert.True(t, got.end().isRegular())
	assert.Equal(t, uint32(os.Geteuid()), got.end().uid)
	assert.Equal(t, uint32(0o640), got.end().mode&0o7777)

	got = walk(f, "/people/gone/x")
	assert.True(t, got.missing())
	assert.Equal(t, "/home/gone/x", got.real)

	text, err := f.read("/home/f")
	require.NoError(t, err)
	assert.Equal(t, "text", string(text))
	assert.Equal(t, []string{"/home/f"}, f.glob("/home/*"))
	assert.False(t, f.hasCaps("/home/f"))
}

// FuzzSettings feeds what sshd might print; no text may do more than be wrong.
func FuzzSettings(f *testing.F) {
	for _, name := range []string{"recommended", "open", "forced-sftp"} {
		text, err := os.ReadFile("testdata/" + name + ".out")
		require.NoError(f, err)
		f.Add(string(text), pamSSHD, "Match User a Address b\nInclude x\n")
	}
	f.Add("forcecommand exec \nauthorizedkeyscommand \nsubsystem\n", "a [b\nx y \\", "Match=\n")
	f.Fuzz(func(t *testing.T, ssh, pam, conf string) {
		w := newWorld(t)
		w.ssh = ssh
		w.files["/etc/pam.d/sshd"] = fakeFile{text: pam}
		w.files["/etc/ssh/sshd_config"] = fakeFile{text: conf}
		for _, finding := range w.run() {
			assert.NotContains(t, finding.String(), "\n")
		}
	})
}
