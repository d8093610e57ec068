package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// withKey makes a key and a line for it, with options before it, for work
// behind every door: in the jail's own file where jail-keys looks, in one of
// root's elsewhere. It returns a client command that logs in with that key.
func withKey(t *testing.T, options string) func(d door, args ...string) *exec.Cmd {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key))
	line := strings.TrimSpace(options+" "+contents(key+".pub")) + "\n"
	require.NoError(t, os.WriteFile(extraKeys, []byte(line), 0o644))
	t.Cleanup(func() { require.NoError(t, os.Remove(extraKeys)) })
	inside := filepath.Join(debianRoot, work.home, ".ssh/authorized_keys")
	before := contents(inside)
	require.NoError(t, os.WriteFile(inside, []byte(before+line), 0o600))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(inside, []byte(before), 0o600)) })
	return func(d door, args ...string) *exec.Cmd {
		return exec.Command("ssh", append([]string{"-F", sshDir + "/config.keyless", "-i", key, "-l", d.user(work)}, args...)...)
	}
}

// sameWithKey compares a login with that key through the jail's doors with one
// through plain sshd.
func sameWithKey(t *testing.T, client func(d door, args ...string) *exec.Cmd, args []string, command ...string) result {
	t.Helper()
	through := func(d door) result {
		all := append(append(append([]string(nil), args...), "--", string(d)), command...)
		return runCommand(t, client(d, all...), nil)
	}
	want := through(plain)
	assertSame(t, fmt.Sprintf("%q through forced", command), want, through(forced))
	assertSame(t, fmt.Sprintf("%q through login", command), want, through(login))
	return want
}

// saysHello is a port of the loopback address that says hello to whoever connects.
func saysHello(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello\n"))
			c.Close()
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func TestCase37KeyWithCommand(t *testing.T) {
	standard(t)
	client := withKey(t, `command="echo \"only this\"; printenv -0 SSH_ORIGINAL_COMMAND | xargs -0 -r echo original:; exit 7"`)
	assert.Equal(t, result{stdout: "only this\noriginal: id\n", status: 7}, sameWithKey(t, client, nil, "id"))
	assert.Equal(t, result{stdout: "only this\n", status: 7}, sameWithKey(t, client, nil), "a shell")
	r := sameWithKey(t, client, []string{"-s"}, "sftp")
	assert.True(t, strings.HasPrefix(r.stdout, "only this\n"), "%q", r.stdout)
}

// TestCase39Certificates: an authority of the tenant's own signs a certificate,
// whose command holds as it does with plain sshd, and serves the jail's files when it
// is sshd's own sftp server.
func TestCase39Certificates(t *testing.T) {
	standard(t)
	dir := t.TempDir()
	ca, key := filepath.Join(dir, "ca"), filepath.Join(dir, "key")
	for _, file := range []string{ca, key} {
		require.NoError(t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file))
	}
	authority := func(t *testing.T, options string) {
		line := options + "cert-authority " + contents(ca+".pub")
		require.NoError(t, os.WriteFile(extraKeys, []byte(line), 0o644))
		t.Cleanup(func() { require.NoError(t, os.Remove(extraKeys)) })
		inside := filepath.Join(debianRoot, work.home, ".ssh/authorized_keys")
		before := contents(inside)
		require.NoError(t, os.WriteFile(inside, []byte(before+line), 0o600))
		t.Cleanup(func() { require.NoError(t, os.WriteFile(inside, []byte(before), 0o600)) })
	}
	sign := func(t *testing.T, options ...string) func(d door, args ...string) *exec.Cmd {
		// The names of the account inside and of the logins.
		names := work.name + "," + work.login
		for _, d := range allDoors {
			names += "," + d.user(work)
		}
		args := append([]string{"-q", "-s", ca, "-I", "id", "-n", names}, options...)
		require.NoError(t, command("ssh-keygen", append(args, key+".pub")...))
		return func(d door, args ...string) *exec.Cmd {
			return exec.Command("ssh", append([]string{"-F", sshDir + "/config.keyless", "-i", key, "-l", d.user(work)}, args...)...)
		}
	}
	const echo = `echo "only this"; printenv -0 SSH_ORIGINAL_COMMAND | xargs -0 -r echo original:; exit 7`
	t.Run("without a command", func(t *testing.T) {
		authority(t, "")
		client := sign(t)
		assert.Equal(t, result{stdout: "work\n"}, sameWithKey(t, client, nil, "id -un"))
	})
	t.Run("a certificate's command", func(t *testing.T) {
		authority(t, "")
		client := sign(t, "-O", "force-command="+echo)
		assert.Equal(t, result{stdout: "only this\noriginal: id\n", status: 7}, sameWithKey(t, client, nil, "id"))
		assert.Equal(t, result{stdout: "only this\n", status: 7}, sameWithKey(t, client, nil), "a shell")
	})
	t.Run("the line's command", func(t *testing.T) {
		authority(t, `command="echo line",`)
		client := sign(t)
		for _, d := range []door{plain, forced} {
			assert.Equal(t, result{stdout: "line\n"}, runCommand(t, client(d, "--", string(d), "id"), nil), "through %s", d)
		}
	})
	t.Run("both the same", func(t *testing.T) {
		authority(t, `command="echo both",`)
		client := sign(t, "-O", "force-command=echo both")
		assert.Equal(t, result{stdout: "both\n"}, sameWithKey(t, client, nil, "id"))
	})
	t.Run("both, and different", func(t *testing.T) {
		authority(t, `command="echo line",`)
		client := sign(t, "-O", "force-command=echo certificate")
		for _, d := range allDoors {
			r := runCommand(t, client(d, "--", string(d), "id"), nil)
			assert.NotZero(t, r.status, "through %s", d)
			assert.Empty(t, r.stdout, "through %s", d)
		}
	})
	t.Run("principals", func(t *testing.T) {
		authority(t, `principals="`+work.name+`",`)
		assert.Equal(t, result{stdout: "work\n"}, sameWithKey(t, sign(t), nil, "id -un"))
	})
	t.Run("other principals", func(t *testing.T) {
		authority(t, `principals="somebody",`)
		client := sign(t)
		for _, d := range allDoors {
			assert.Equal(t, 255, runCommand(t, client(d, "--", string(d), "id"), nil).status, "through %s", d)
		}
	})
	t.Run("no-pty", func(t *testing.T) {
		authority(t, "")
		client := sign(t, "-O", "no-pty")
		assert.Equal(t, result{stdout: "not a tty\n", status: 1}, sameWithKey(t, client, nil, "tty"))
	})
}

func TestCase38KeyRestrictions(t *testing.T) {
	standard(t)
	t.Run("no-pty", func(t *testing.T) {
		client := withKey(t, "no-pty")
		assert.Equal(t, result{stdout: "not a tty\n", status: 1}, sameWithKey(t, client, nil, "tty"))
		for _, d := range allDoors {
			r := runCommand(t, client(d, "-tt", "--", string(d), "tty"), nil)
			assert.Equal(t, 255, r.status, "through %s", d)
		}
	})
	for _, options := range []string{`from="192.0.2.1"`, `expiry-time="20000101"`} {
		t.Run(options, func(t *testing.T) {
			client := withKey(t, options)
			for _, d := range allDoors {
				r := runCommand(t, client(d, "--", string(d), "id"), nil)
				assert.Equal(t, 255, r.status, "through %s", d)
				assert.Empty(t, r.stdout)
			}
		})
	}
	t.Run("permitopen", func(t *testing.T) {
		open, shut := saysHello(t), saysHello(t)
		client := withKey(t, `permitopen="127.0.0.1:`+open+`"`)
		for _, d := range allDoors {
			r := runCommand(t, client(d, "-W", "127.0.0.1:"+open, string(d)), nil)
			assert.Equal(t, "hello\n", r.stdout, "through %s: %s", d, r.stderr)
			r = runCommand(t, client(d, "-W", "127.0.0.1:"+shut, string(d)), nil)
			assert.NotZero(t, r.status, "through %s", d)
			assert.Empty(t, r.stdout, "through %s", d)
		}
	})
	t.Run("permitlisten", func(t *testing.T) {
		open, shut := strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t))
		client := withKey(t, `permitlisten="localhost:`+open+`"`)
		for _, d := range allDoors {
			for port, status := range map[string]int{open: 0, shut: 255} {
				r := runCommand(t, client(d, "-o", "ExitOnForwardFailure=yes", "-R", port+":127.0.0.1:9", "--", string(d), "true"), nil)
				assert.Equal(t, status, r.status, "through %s, %v: %s", d, port == open, r.stderr)
			}
		}
	})
	t.Run("restrict", func(t *testing.T) {
		port := saysHello(t)
		client := withKey(t, "restrict")
		assert.Equal(t, result{stdout: "not a tty\n", status: 1}, sameWithKey(t, client, nil, "tty"))
		for _, d := range allDoors {
			assert.Equal(t, 255, runCommand(t, client(d, "-tt", "--", string(d), "tty"), nil).status, "through %s", d)
			assert.Empty(t, runCommand(t, client(d, "-W", "127.0.0.1:"+port, string(d)), nil).stdout, "through %s", d)
		}
	})
	t.Run("environment", func(t *testing.T) {
		client := withKey(t, `environment="LC_EVIL=1",environment="LD_PRELOAD=/x.so"`)
		r := runCommand(t, client(forced, "--", string(forced), "env"), nil)
		assert.NotContains(t, r.stdout, "LC_EVIL")
		assert.NotContains(t, r.stdout, "LD_PRELOAD")
	})
	t.Run("a key nobody knows", func(t *testing.T) {
		client := withKey(t, "")
		require.NoError(t, os.WriteFile(extraKeys, nil, 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(debianRoot, work.home, ".ssh/authorized_keys"), nil, 0o600))
		for _, d := range allDoors {
			assert.Equal(t, 255, runCommand(t, client(d, "--", string(d), "id"), nil).status, "through %s", d)
		}
		// withKey puts back what was there.
	})
}

// jail-keys answers for a stopped jail as for a running one, does not start
// it, and waits for nothing, whatever the tenant has put in the place of the file.
func TestCase40HostileKeyFiles(t *testing.T) {
	own(t, standardRegistry())
	home := filepath.Join(busyboxRoot, centos.home)
	file := filepath.Join(home, ".ssh/authorized_keys")
	good := contents(file)
	ask := func(t *testing.T, args ...string) result {
		t.Helper()
		r := runCommand(t, exec.Command(keysPath, args...), nil)
		assert.NotContains(t, r.stderr, "no answer in time", "it waits for nothing, and needs no deadline")
		return r
	}
	fields := strings.Fields(good)
	require.Len(t, fields, 2)
	for _, args := range [][]string{{centos.login}, {centos.login, fields[0], fields[1]}} {
		r := ask(t, args...)
		assert.Zero(t, r.status, "%s", r.stderr)
		assert.Contains(t, r.stdout, strings.TrimSpace(good), "%q", args)
	}
	for _, login := range []string{"root", "nosuchlogin", alice.login, "../centos", "-x", ""} {
		assert.Empty(t, ask(t, login).stdout, "%q", login)
	}

	// The host's file has the very key, so a link that leads there shows.
	for claim, spoil := range map[string]func() error{
		"a link to the host's key":    func() error { return os.Symlink(keyFile+".pub", file) },
		"a link that climbs out":      func() error { return os.Symlink("../../../../../../../.."+keyFile+".pub", file) },
		"a link to the host's shadow": func() error { return os.Symlink("/etc/shadow", file) },
		"a link through /proc":        func() error { return os.Symlink("/proc/self/root"+keyFile+".pub", file) },
		"a FIFO":                      func() error { return unix.Mkfifo(file, 0o600) },
		"a device":                    func() error { return unix.Mknod(file, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
		"a directory":                 func() error { return os.Mkdir(file, 0o700) },
		"50 GB of nothing": func() error {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(file, 50<<30)
		},
		"a line of 10 MB":         func() error { return os.WriteFile(file, []byte(strings.Repeat("x", 10<<20)+"\n"), 0o600) },
		"a million lines":         func() error { return os.WriteFile(file, []byte(strings.Repeat("ssh-rsa x\n", 1_000_000)), 0o600) },
		"writable by all":         func() error { return writeMode(file, good, 0o666) },
		"unreadable":              func() error { return writeMode(file, good, 0) },
		"somebody else's file":    func() error { return writeOwner(file, good, 61999) },
		"in a directory for all":  func() error { return errors.Join(writeMode(file, good, 0o600), os.Chmod(home, 0o777)) },
		"a socket in its place":   func() error { return unix.Mknod(file, unix.S_IFSOCK|0o600, 0) },
		"nothing but NUL and ESC": func() error { return os.WriteFile(file, []byte(strings.Repeat("\x00\x1b\r", 1000)), 0o600) },
	} {
		t.Run(claim, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(file))
			t.Cleanup(func() {
				require.NoError(t, os.RemoveAll(file))
				require.NoError(t, os.Chmod(home, 0o755))
				require.NoError(t, writeOwner(file, good, centos.id))
			})
			require.NoError(t, spoil())
			if info, err := os.Lstat(file); err == nil && claim != "somebody else's file" && info.Mode()&os.ModeSymlink == 0 {
				require.NoError(t, os.Chown(file, centos.id, centos.id))
			}
			r := ask(t, centos.login)
			assert.Empty(t, r.stdout)
			assert.LessOrEqual(t, strings.Count(r.stderr, "\n"), 1, "%s", r.stderr)
		})
	}
	assert.Contains(t, ask(t, centos.login).stdout, strings.TrimSpace(good), "all is as it was")
	assert.Empty(t, jailPIDs("centos"), "Case43: none of this starts the jail")
}

func writeMode(file, text string, mode os.FileMode) error {
	return errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode))
}

func writeOwner(file, text string, id int) error {
	return errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chown(file, id, id))
}

// newKey makes a key pair and returns the private one's path.
func newKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key))
	return key
}

// appendTo appends text to a file for the length of a test.
func appendTo(t *testing.T, path, text string) {
	t.Helper()
	before := contents(path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(before+text), info.Mode()))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(path, []byte(before), info.Mode())) })
}

// by is a client with that key and no other.
func by(key string, d door, server []string, args ...string) *exec.Cmd {
	options := []string{"-F", sshDir + "/config.keyless", "-l", d.user(work), "-i", key}
	if server != nil {
		options = append(options, "-o", "ProxyCommand="+strings.Join(server, " "))
	}
	return exec.Command("ssh", append(options, args...)...)
}

// withKeys is a registry of work's jail, with lines for where keys may be kept.
func withKeys(lines ...string) registry {
	return oneJail("keyed", debianRoot, append(lines, "[jail.keyed.users]", fmt.Sprintf("%s = { uid = %d }", work.login, work.id))...)
}

// Two names of one uid, each with a home: the registry says which of them the login
// is, for the keys and for the session alike.
func TestKeysOfTheNameInTheRegistry(t *testing.T) {
	key := newKey(t)
	appendTo(t, filepath.Join(debianRoot, "etc/passwd"), "second:x:61001:61001::/home/second:/bin/bash\n")
	home := filepath.Join(debianRoot, "home/second")
	t.Cleanup(func() { os.RemoveAll(home) })
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".ssh"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh/authorized_keys"), []byte(`command="echo only this" `+contents(key+".pub")), 0o644))
	for _, file := range []string{"", ".ssh", ".ssh/authorized_keys"} {
		require.NoError(t, os.Chown(filepath.Join(home, file), work.id, work.id))
	}
	t.Run("the second name", func(t *testing.T) {
		own(t, oneJail("keyed", debianRoot, "[jail.keyed.users]", fmt.Sprintf(`%s = { uid = %d, name = "second" }`, work.login, work.id)))
		for _, cmd := range []string{"id", "cat /etc/passwd"} {
			assert.Equal(t, result{stdout: "only this\n"}, runCommand(t, by(key, forced, nil, "--", string(forced), cmd), nil))
		}
		assert.Equal(t, result{stdout: "second /home/second\n"}, run(t, login, ask{cmd: `echo "$USER" "$PWD"`}))
		r := runCommand(t, by(keyFile, forced, nil, "--", string(forced), "id"), nil)
		assert.Equal(t, 255, r.status, "the other name's keys: %s", r.stdout)
	})
	t.Run("the first", func(t *testing.T) {
		own(t, withKeys())
		assert.Equal(t, result{stdout: "work\n"}, run(t, forced, ask{cmd: "id -un"}))
		r := runCommand(t, by(key, forced, nil, "--", string(forced), "id"), nil)
		assert.Equal(t, 255, r.status, "the other name's keys: %s", r.stdout)
	})
}

// refusedKey is what the user reads whose key has no line inside.
const refusedKey = `^jail-enter: .*sshd let in a key that is not, or no longer, in /home/work/\.ssh/authorized_keys of the jail; put it there, or write keys = "anywhere" in the registry .*\n$`

// TestKeysFromElsewhere: sshd has keys, authorities and passwords of its own for a login.
func TestKeysFromElsewhere(t *testing.T) {
	inside, outside, ca := newKey(t), newKey(t), newKey(t)
	appendTo(t, filepath.Join(debianRoot, work.home, ".ssh/authorized_keys"), contents(inside+".pub"))
	file := func(name, text string) string {
		path := filepath.Join(sshDir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
		return path
	}
	hostKeys := file("elsewhere.pub", `command="echo of the host" `+contents(outside+".pub"))
	authority := file("authority.pub", contents(ca+".pub"))
	principals := file("principals", work.login+"\n")
	sign := func(options ...string) string {
		key := newKey(t)
		require.NoError(t, command("ssh-keygen", append([]string{"-q", "-s", ca, "-I", "id", "-n", work.login}, append(options, key+".pub")...)...))
		return key
	}
	free, bound := sign(), sign("-O", "force-command=echo only this")
	withFile := variant(t, forced, "AuthorizedKeysFile "+hostKeys)
	withCA := variant(t, forced, "TrustedUserCAKeys "+authority, "AuthorizedPrincipalsFile "+principals)
	silent := variant(t, forced, "ExposeAuthInfo no", "AuthorizedKeysFile "+hostKeys, "TrustedUserCAKeys "+authority, "AuthorizedPrincipalsFile "+principals)
	enters := func(t *testing.T, claim, key string, server []string) {
		t.Helper()
		r := runCommand(t, by(key, forced, server, "--", string(forced), "id -un"), nil)
		assert.Equal(t, result{stdout: "work\n"}, r, claim)
	}
	refused := func(t *testing.T, claim, key string, server []string, words string) {
		t.Helper()
		r := runCommand(t, by(key, forced, server, "--", string(forced), "id -un"), nil)
		assert.Equal(t, 125, r.status, claim)
		assert.Empty(t, r.stdout, claim)
		assert.Regexp(t, words, r.stderr, claim)
	}
	const unknown = `^jail-enter: .*sshd does not say which one authenticated; set ExposeAuthInfo yes in sshd_config.*\n$`
	password := func(t *testing.T) {
		t.Helper()
		const secret = "correct horse"
		hash, err := exec.Command("openssl", "passwd", "-6", secret).Output()
		require.NoError(t, err)
		shadow := contents("/etc/shadow")
		t.Cleanup(func() { require.NoError(t, os.WriteFile("/etc/shadow", []byte(shadow), 0o600)) })
		require.Contains(t, shadow, work.login+":*:")
		require.NoError(t, os.WriteFile("/etc/shadow", []byte(strings.Replace(shadow, work.login+":*:", work.login+":"+strings.TrimSpace(string(hash))+":", 1)), 0o600))
		askpass := filepath.Join(t.TempDir(), "askpass")
		require.NoError(t, os.WriteFile(askpass, []byte("#!/bin/sh\necho '"+secret+"'\n"), 0o755))
		cmd := exec.Command("ssh", "-o", "BatchMode=no", "-F", sshDir+"/config.keyless", "-o", "PreferredAuthentications=password", "-l", work.login,
			"-o", "ProxyCommand="+strings.Join(variant(t, forced, "PasswordAuthentication yes"), " "), "--", string(forced), "id -un")
		cmd.Env = append(os.Environ(), "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force")
		assert.Equal(t, result{stdout: "work\n"}, runCommand(t, cmd, nil), "a password")
	}
	t.Run("inside", func(t *testing.T) {
		own(t, withKeys())
		enters(t, "a key inside", inside, nil)
		enters(t, "a key inside, where sshd has others", inside, withFile)
		refused(t, "a key of the host's", outside, withFile, refusedKey)
		refused(t, "a certificate of the host's", free, withCA, refusedKey)
		refused(t, "one with a command", bound, withCA, refusedKey)
		enters(t, "a key inside, and sshd says nothing", inside, silent)
		appendTo(t, filepath.Join(debianRoot, work.home, ".ssh/authorized_keys"), `command="echo only this" `+contents(newKey(t)+".pub"))
		refused(t, "sshd says nothing, and a key inside has a command", inside, silent, unknown)
		enters(t, "the same where sshd says it", inside, nil)
		password(t)
	})
	t.Run("anywhere", func(t *testing.T) {
		own(t, withKeys(`keys = "anywhere"`))
		enters(t, "a key inside", inside, withFile)
		enters(t, "a key of the host's, whose command= gives way to sshd's ForceCommand", outside, withFile)
		enters(t, "a certificate of the host's", free, withCA)
		r := runCommand(t, by(bound, forced, withCA, "--", string(forced), "id -un"), nil)
		assert.Equal(t, result{stdout: "only this\n"}, r, "a certificate's own command")
		for claim, key := range map[string]string{"a key inside": inside, "a key of the host's": outside, "a certificate": free, "one with a command": bound} {
			refused(t, claim+", and sshd says nothing", key, silent, unknown)
		}
		password(t)
	})
	t.Run("as the login shell", func(t *testing.T) {
		// Without a ForceCommand sshd itself runs the command of a key of the host's.
		// What jail-keys prints is bound, and looked at again by PID 1.
		own(t, withKeys())
		host := variant(t, login, "AuthorizedKeysFile "+hostKeys)
		r := runCommand(t, by(outside, login, host, "--", string(login), "id -un"), nil)
		assert.Equal(t, result{stdout: "of the host\n"}, r)
		keys := variant(t, login, "AuthorizedKeysFile none", "AuthorizedKeysCommand "+keysPath+" -- %u %t %k", "AuthorizedKeysCommandUser root")
		r = runCommand(t, by(inside, login, keys, "--", string(login), "id -un"), nil)
		assert.Equal(t, result{stdout: "work\n"}, r)
		bound := newKey(t)
		appendTo(t, filepath.Join(debianRoot, work.home, ".ssh/authorized_keys"), `command="echo only this" `+contents(bound+".pub"))
		r = runCommand(t, by(bound, login, keys, "--", string(login), "id -un"), nil)
		assert.Equal(t, result{stdout: "only this\n"}, r)
	})
}

// A key that has been taken out of the file opens no session any more, although its
// connection stands: between jail-keys' look and PID 1's there may be a moment or a day.
func TestKeyTakenOutMeanwhile(t *testing.T) {
	own(t, withKeys())
	key := newKey(t)
	file := filepath.Join(debianRoot, work.home, ".ssh/authorized_keys")
	before := contents(file)
	put := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	t.Cleanup(func() { put(before) })
	put(before + contents(key+".pub"))
	path := filepath.Join(shortDir(t), "mux")
	master := by(key, forced, nil, "-M", "-N", "-S", path, "--", string(forced))
	require.NoError(t, master.Start())
	defer master.Wait()
	defer master.Process.Signal(unix.SIGTERM)
	eventually(t, "the connection stands", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	over := func() result {
		return runCommand(t, by(key, forced, nil, "-S", path, "--", string(forced), "id -un"), nil)
	}
	assert.Equal(t, result{stdout: "work\n"}, over())
	put(before)
	r := over()
	assert.Equal(t, 125, r.status)
	assert.Empty(t, r.stdout)
	assert.Regexp(t, refusedKey, r.stderr)
	put(before + `command="echo only this" ` + contents(key+".pub"))
	assert.Equal(t, result{stdout: "only this\n"}, over(), "and a command that has come is heeded")
	put(before + contents(key+".pub"))
	assert.Equal(t, result{stdout: "work\n"}, over())
}

// TestKeysReasonReachesTheLog: sshd throws away what jail-keys says, and the system's
// log has it, once for each key that is offered. The /dev of this sshd is its own.
func TestKeysReasonReachesTheLog(t *testing.T) {
	own(t, withKeys())
	home := filepath.Join(debianRoot, work.home)
	info, err := os.Stat(home)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.Chmod(home, info.Mode())) })
	dir := shortDir(t)
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "log"), Net: "unixgram"})
	require.NoError(t, err)
	defer log.Close()
	script := filepath.Join(dir, "sshd")
	require.NoError(t, os.WriteFile(script, []byte(`#!/bin/sh -e
mkdir -p `+dir+`/dev
mount --rbind /dev `+dir+`/dev
mount -t tmpfs tmpfs /dev
for f in null zero random urandom tty log; do : >/dev/$f; done
for f in null zero random urandom tty; do mount --bind `+dir+`/dev/$f /dev/$f; done
mount --bind `+dir+`/log /dev/log
exec `+strings.Join(sshd(forced, world.scratch), " ")+"\n"), 0o755))
	server := []string{"unshare", "-m", script}
	ask := func() (status int, lines []string) {
		r := runCommand(t, by(keyFile, forced, server, "--", string(forced), "true"), nil)
		buf := make([]byte, 8192)
		for {
			require.NoError(t, log.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			n, err := log.Read(buf)
			if err != nil {
				return r.status, lines
			}
			// PAM has things to say as well.
			if line := string(buf[:n]); strings.Contains(line, "jail-keys[") {
				lines = append(lines, line)
			}
		}
	}
	status, lines := ask()
	assert.Zero(t, status, "all is well")
	assert.Empty(t, lines)
	require.NoError(t, os.Chmod(home, 0o777))
	status, lines = ask()
	assert.Equal(t, 255, status)
	if assert.Len(t, lines, 1) {
		assert.Regexp(t, `^<84>.* jail-keys\[\d+\]: debian: in the jail: "/home/work" is writable by others \(mode 0777\)$`, lines[0])
	}
}
