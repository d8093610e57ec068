package e2e

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// Cases 44 and 45, file transfer, and most of 46, forwarding, are rows of
// TestClients.

// sftp that is asked for by the name of sshd's own server is the jail's.
func TestCase39InternalSFTP(t *testing.T) {
	standard(t)
	here := place{"debian", forced}
	internal := func(config string) string {
		return strings.ReplaceAll(config, "Subsystem sftp /usr/lib/openssh/sftp-server", "Subsystem sftp internal-sftp")
	}
	ca := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", ca))
	for _, c := range []struct {
		name, options string
		edit          func(string) string
		certificate   bool
		refused       bool
	}{
		{name: "command=", options: `command="internal-sftp"`},
		{name: "subsystem", edit: internal},
		{name: "certificate", certificate: true},
		// Without --forced jail-keys binds authorities to jail-enter, and sshd refuses
		// a certificate with another command.
		{name: "certificate that is bound", certificate: true, refused: true, edit: func(config string) string {
			return strings.ReplaceAll(config, keysPath+" --forced ", keysPath+" ")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			front := openFront(t, here, c.edit)
			s := newSite(t, front, "case 39")
			config := s.config
			switch {
			case c.options != "":
				config = s.writeConfig("other", s.newKey(c.options))
			case c.certificate:
				key := s.newKey("restrict,no-pty,from=\"192.0.2.1\"") // of no use by itself
				line := "cert-authority " + contents(ca+".pub")
				file := filepath.Join(s.root(), s.account().home, ".ssh/authorized_keys")
				before := contents(file)
				require.NoError(t, os.WriteFile(file, []byte(before+line), 0o600))
				defer func() { require.NoError(t, os.WriteFile(file, []byte(before), 0o600)) }()
				require.NoError(t, command("ssh-keygen", "-q", "-s", ca, "-I", "id", "-n", s.user(), "-O", "force-command=internal-sftp", key+".pub"))
				config = s.writeConfig("other", key, "CertificateFile "+key+"-cert.pub")
			}
			// The host has this file, and so has the jail, with another content.
			require.NoError(t, os.WriteFile("/srv/case39", []byte("the host's"), 0o644))
			defer os.Remove("/srv/case39")
			inside := filepath.Join(s.root(), "srv/case39")
			require.NoError(t, os.WriteFile(inside, []byte("the jail's"), 0o644))
			defer os.Remove(inside)
			r := runCommand(t, s.client("sftp", "-F", config, "-b", "-", "host"), strings.NewReader("get /srv/case39 got\nls -1 /home\n"))
			got := contents(s.local("got"))
			assert.NotEqual(t, "the host's", got, "%s", r.stdout)
			assert.NotContains(t, r.stdout, "/srv/jails")
			if c.refused {
				assert.Equal(t, 255, r.status)
				assert.Contains(t, r.stderr, "Permission denied")
				return
			}
			claim(t, "Case39/"+c.name, r.status == 0 && got == "the jail's", "status %d, got %q: %s%s", r.status, got, r.stdout, r.stderr)
			// Whatever the key or the subsystem, it is no way to a shell.
			if c.edit == nil || c.certificate {
				r = runCommand(t, s.client("ssh", "-F", config, "-n", "host", "echo a shell"), nil)
				assert.NotContains(t, r.stdout, "a shell")
			}
		})
	}
}

// What authorized_keys may look like, as sshd reads it and as jail-keys does.
func TestCase41KeyFileForms(t *testing.T) {
	standard(t)
	fronts := []*front{openFront(t, oraclePlace, nil), openFront(t, place{"debian", forced}, nil)}
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key))
	line := strings.TrimSpace(contents(key + ".pub"))
	for _, c := range []struct {
		name, text string
		want       result // with status 255, the login is refused
		jail       string // what the jail says if it refuses on purpose
	}{
		{"CRLF", "# comment\r\n" + line + "\r\n", result{stdout: "in,\n"}, ""},
		{"no newline at the end", "\n\n  " + line, result{stdout: "in,\n"}, ""},
		{"a byte order mark", "\ufeff" + line + "\n", result{status: 255}, ""},
		{"a byte order mark on another line", "\ufeff# nothing\n" + line + "\n", result{stdout: "in,\n"}, ""},
		{"a comment with blanks", line + " some body @ home \t\n", result{stdout: "in,\n"}, ""},
		{"an unknown option", "nonsense " + line + "\n", result{status: 255}, ""},
		{"an unknown option, then the key", "nonsense " + line + "\n" + line + "\n", result{stdout: "in,\n"}, ""},
		{"the first of two wins", `command="echo first" ` + line + "\n" + line + "\n", result{stdout: "first\n"}, ""},
		{"the first of two wins, without options", line + "\n" + `command="echo second" ` + line + "\n", result{stdout: "in,\n"}, ""},
		{"a line that does not apply is passed over", `from="192.0.2.1",command="echo elsewhere" ` + line + "\n" + `command="echo second" ` + line + "\n", result{stdout: "second\n"}, "several lines of the key that authenticated differ in command="},
		{"characters of the grammar", `command="echo \"a b\" ',#\\' # no comment",no-pty ` + line + "\n", result{stdout: `a b ,#\\` + "\n"}, ""},
		{"15 kB of options", `command="echo long; : ` + strings.Repeat("x", 15<<10) + `" ` + line + "\n", result{stdout: "long\n"}, ""},
		{"blanks between options", `no-pty, command="echo blank" ` + line + "\n", result{status: 255}, ""},
		{"an option without its end", `command="echo open ` + line + "\n", result{status: 255}, ""},
		{"capital options", `NO-PTY,Command="echo capital" ` + line + "\n", result{stdout: "capital\n"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, f := range fronts {
				s := newSite(t, f, "case 41")
				file := filepath.Join(s.root(), s.account().home, ".ssh/authorized_keys")
				before := contents(file)
				require.NoError(t, os.WriteFile(file, []byte(c.text), 0o600))
				r := runCommand(t, s.client("ssh", "-F", s.writeConfig("other", key), "-n", "host", `echo in,$SSH_ORIGINAL_COMMAND`), nil)
				require.NoError(t, os.WriteFile(file, []byte(before), 0o600))
				if r.status == 255 {
					assert.Contains(t, r.stderr, "Permission denied")
					r.stderr = ""
				}
				if c.jail != "" && f.door != plain {
					assert.Equal(t, 125, r.status)
					assert.Contains(t, r.stderr, c.jail)
					continue
				}
				assert.Equal(t, c.want, r, "%s", f.place)
			}
		})
	}
}

// Two keys are asked for, and the restrictions of both hold; a password leads
// into the jail as well.
func TestCase42OtherAuthentication(t *testing.T) {
	standard(t)
	places := []place{oraclePlace, {"debian", forced}}
	t.Run("two keys", func(t *testing.T) {
		for _, p := range places {
			s := newSite(t, openFront(t, p, func(config string) string {
				return config + "\tAuthenticationMethods publickey,publickey\n"
			}), "case 42")
			restricted := s.newKey(`no-pty,command="echo forced; test -t 0 || echo no terminal"`)
			run := func(keys ...string) result {
				config := s.writeConfig("two", keys[0])
				text := strings.Replace(contents(config), "IdentityFile "+keys[0], "IdentityFile "+strings.Join(keys, "\n\tIdentityFile "), 1)
				require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
				return runCommand(t, s.client("ssh", "-F", config, "host", "echo in"), nil)
			}
			for _, keys := range [][]string{{keyFile, restricted}, {restricted, keyFile}} {
				assert.Equal(t, result{stdout: "forced\nno terminal\n"}, run(keys...), "%s", p)
			}
			assert.Equal(t, 255, run(keyFile).status, "%s: one is not enough", p)
			assert.Equal(t, 255, run(restricted).status, "%s: one is not enough", p)
		}
	})
	t.Run("password", func(t *testing.T) {
		// "secret", by crypt(3).
		const password = "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG."
		shadow := contents("/etc/shadow")
		require.NoError(t, os.WriteFile("/etc/shadow", []byte(strings.Replace(shadow, "\n"+work.login+":*:", "\n"+work.login+":"+password+":", 1)), 0o640))
		defer func() { require.NoError(t, os.WriteFile("/etc/shadow", []byte(shadow), 0o640)) }()
		f := openFront(t, place{"debian", forced}, func(config string) string {
			return strings.ReplaceAll(config, "PasswordAuthentication no", "PasswordAuthentication yes")
		})
		login := func(password string) (string, error) {
			c, err := ssh.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", f.port), &ssh.ClientConfig{
				User: work.login, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: deadline,
			})
			if err != nil {
				return "", err
			}
			defer c.Close()
			session, err := c.NewSession()
			if err != nil {
				return "", err
			}
			out, err := session.Output("id -un; cat /proc/1/comm")
			return string(out), err
		}
		out, err := login("secret")
		require.NoError(t, err)
		assert.Equal(t, run(t, forced, ask{cmd: "id -un; cat /proc/1/comm"}).stdout, out)
		_, err = login("another")
		assert.Error(t, err)
	})
}

// A connection that is there to be forwarded through starts no jail.
func TestCase46ForwardingStartsNothing(t *testing.T) {
	own(t, standardRegistry())
	for _, p := range jailPlaces {
		s := newSite(t, openFront(t, p, nil), "case 46")
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err == nil {
				io.WriteString(conn, "a service\n")
				conn.Close()
			}
		}()
		r := runCommand(t, s.client("ssh", "-F", s.config, "-W", l.Addr().String(), "host"), strings.NewReader(""))
		assert.Equal(t, result{stdout: "a service\n"}, r, "%s", p)
	}
	for _, name := range standardRegistry().jails {
		assert.Empty(t, jailPIDs(name))
	}
}

// Nobody gets a session as somebody else.
func TestCase51WhoAsks(t *testing.T) {
	standard(t)
	as := func(id int, name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
		return cmd
	}
	t.Run("another uid's socket", func(t *testing.T) {
		const connect = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(10)
try:
    s.connect(sys.argv[1])
    s.send(b"\1\1\0\0")
    print("connected", s.recv(10))
except OSError as e:
    print(e.strerror)
`
		for _, path := range []string{socketPath(work), "/run/jail/ctl/debian", "/run/jail/ctl/centos"} {
			r := runCommand(t, as(centos.id, "/usr/bin/python3", "-c", connect, path), nil)
			assert.Equal(t, "Permission denied\n", r.stdout, "%s: %s", path, r.stderr)
		}
		r := runCommand(t, as(centos.id, "/usr/bin/python3", "-c", connect, socketPath(centos)), nil)
		assert.NotContains(t, r.stdout, "Permission denied", "its own can be asked, with nonsense")
	})
	t.Run("jail-enter by another uid", func(t *testing.T) {
		inside := run(t, forced, ask{as: centos, cmd: "id"})
		for _, env := range [][]string{nil, {
			"USER=" + work.login, "LOGNAME=" + work.login, "HOME=/home/work", "UID=" + fmt.Sprint(work.id), "SUDO_UID=" + fmt.Sprint(work.id),
			"XDG_RUNTIME_DIR=/run/jail/" + fmt.Sprint(work.id), "JAIL=debian", "JAIL_SOCKET=" + socketPath(work),
		}} {
			cmd := as(centos.id, enterPath, "-c", "id")
			cmd.Env = append(cmd.Env, env...)
			assert.Equal(t, inside, runCommand(t, cmd, nil), "%q", env)
		}
		r := runCommand(t, as(spares[0].id, enterPath, "-c", "id"), nil)
		assert.NotZero(t, r.status, "a uid without a jail")
		assert.Empty(t, r.stdout)
	})
	t.Run("through a forwarded socket", func(t *testing.T) {
		for _, p := range jailPlaces[:2] {
			s := newSite(t, openFront(t, p, nil), "case 51")
			for _, path := range []string{socketPath(centos), socketPath(work), "/run/jail/ctl/debian"} {
				port := quietPort(t)
				b := s.start(s.client("ssh", "-F", s.config, "-N", "-L", fmt.Sprintf("127.0.0.1:%d:%s", port, path), "host"))
				var conn net.Conn
				var err error
				require.True(t, poll(deadline, func() bool {
					conn, err = net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
					return err == nil || b.gone()
				}))
				require.NoError(t, err, "%s", b.stderr.String())
				io.WriteString(conn, "\x01\x01\x00\x00")
				text, _ := io.ReadAll(conn)
				conn.Close()
				assert.Empty(t, text, "%s to %s", p, path)
			}
		}
	})
}

// A signal may come as soon as the command runs, which is before jail-enter has
// heard of it. strace holds jail-enter between the two.
func TestSignalBeforeTheAnswer(t *testing.T) {
	standard(t)
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendmsg", "-e", "inject=sendmsg:delay_exit=3000000",
		enterPath, "-c", "trap 'echo trapped; exit 4' TERM; echo ready; read line; exit 5")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(work.id), Gid: uint32(work.id)}}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	var stdout, stderr lockedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	eventually(t, "the command runs", func() bool { return strings.HasPrefix(stdout.String(), "ready\n") })
	sent := false
	for _, p := range processes() {
		if p.parent == cmd.Process.Pid && strings.HasPrefix(p.args, enterPath) {
			require.NoError(t, syscall.Kill(p.pid, syscall.SIGTERM))
			sent = true
		}
	}
	assert.True(t, sent, "jail-enter runs")
	// The command has not met what it reads until now.
	stop := time.AfterFunc(deadline, func() { stdin.Close() })
	<-ended
	stop.Stop()
	claim(t, "a signal before the answer", stdout.String() == "ready\ntrapped\n" && cmd.ProcessState.ExitCode() == 4,
		"%q, %v%s", stdout.String(), cmd.ProcessState, stderr.String())
}

// What a tenant puts into its home has no effect on the host's processes.
func TestCase52FilesOfTheHome(t *testing.T) {
	standard(t)
	home := filepath.Join(debianRoot, work.home)
	const canary = "/var/tmp/jail-canary" // the host's; inside it is the jail's own
	touch := "touch " + canary + "; echo canary\n"
	files := map[string]string{
		".pam_environment":                  "CASE52 DEFAULT=canary\nLD_PRELOAD DEFAULT=" + canary + ".so\nPATH DEFAULT=/canary\n",
		".ssh/rc":                           touch,
		".ssh/environment":                  "CASE52=canary\nLD_PRELOAD=" + canary + ".so\n",
		".ssh/config":                       "Match exec \"touch " + canary + "\"\n",
		".config/systemd/user/x.service":    "[Service]\nExecStart=touch " + canary + "\n",
		".config/environment.d/x.conf":      "CASE52=canary\n",
		".hushlogin":                        "",
		".forward":                          "\"|touch " + canary + "\"\n",
		".rhosts":                           "+ +\n",
		".shosts":                           "+ +\n",
		".k5login":                          "canary\n",
		".profile":                          profile + touch,
		".bashrc":                           bashrc + "touch " + canary + "\n",
		".zshenv":                           touch,
		".config/fish/config.fish":          touch,
		".tcshrc":                           touch,
		".google_authenticator":             "canary\n",
		".local/share/systemd/user/x.timer": "[Timer]\nOnActiveSec=0\n",
	}
	saved := make(map[string][]byte)
	for name, text := range files {
		path := filepath.Join(home, name)
		if old, err := os.ReadFile(path); err == nil {
			saved[path] = old
		} else if top, _, below := strings.Cut(name, "/"); !below || top == ".ssh" {
			t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chown(path, work.id, work.id))
	}
	t.Cleanup(func() {
		for path, text := range saved {
			require.NoError(t, os.WriteFile(path, text, 0o600))
		}
		for _, dir := range []string{".config", ".local"} {
			require.NoError(t, os.RemoveAll(filepath.Join(home, dir)))
		}
		require.NoError(t, os.RemoveAll(filepath.Join(debianRoot, canary)))
	})
	_, err := os.Lstat(canary)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, p := range jailPlaces[:2] {
		s := newSite(t, openFront(t, p, nil), "case 52")
		assert.Equal(t, "in .\n", runCommand(t, s.ssh("echo in $CASE52."), nil).stdout, "%s", p)
		shell := runCommand(t, s.client("ssh", "-T", "-F", s.config, "host"), strings.NewReader("echo in $CASE52.\nexit 3\n"))
		assert.Contains(t, shell.stdout, "in .\n", "%s", p)
		assert.Equal(t, 3, shell.status)
		runCommand(t, s.client("ssh", "-tt", "-F", s.config, "host", "env"), nil)
		assert.Zero(t, runCommand(t, s.client("sftp", "-F", s.config, "-b", "-", "host"), strings.NewReader("pwd\n")).status)

		// The host's processes of a session that is open.
		open := s.ssh("echo ready; cat")
		stdin, err := open.StdinPipe()
		require.NoError(t, err)
		b := s.start(open)
		require.True(t, poll(deadline, func() bool { return strings.Contains(b.stdout.String(), "ready") || b.gone() }))
		seen := 0
		for _, proc := range processes() {
			if strings.HasPrefix(proc.args, "jail-enter") || strings.HasPrefix(proc.args, "-jail-enter") || proc.ofSSHD(work.login) {
				seen++
				environ := contents(fmt.Sprintf("/proc/%d/environ", proc.pid))
				assert.NotContains(t, environ, "canary", "%s", proc.args)
			}
		}
		assert.NotZero(t, seen)
		stdin.Close()
		require.True(t, poll(deadline, b.gone))
	}
	_, err = os.Lstat(canary)
	assert.True(t, errors.Is(err, fs.ErrNotExist), "something on the host has done what a file in the jail says")
	_, err = os.Lstat(filepath.Join(debianRoot, canary))
	assert.NoError(t, err, "inside, the shell's files are read")
}
