package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCase31Environment(t *testing.T) {
	standard(t)
	locale := []string{"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "LC_MESSAGES=de_DE", "COLORTERM=truecolor", "GIT_PROTOCOL=version=2"}
	t.Run("without a terminal", func(t *testing.T) {
		r := same(t, ask{cmd: "env | LC_ALL=C sort", env: locale}, "pam_motd", "auth info", "unknown locale")
		for _, entry := range append(locale, "USER=work", "LOGNAME=work", "HOME=/home/work", "SHELL=/bin/bash", "SSH_CLIENT=UNKNOWN 65535 65535") {
			assert.Contains(t, r.stdout, entry+"\n")
		}
		for _, name := range []string{"TERM", "SSH_TTY", "SSH_ORIGINAL_COMMAND", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "MAIL"} {
			assert.NotContains(t, r.stdout, "\n"+name+"=")
		}
	})
	t.Run("on a terminal", func(t *testing.T) {
		r := same(t, ask{cmd: "env | LC_ALL=C sort", env: locale, tty: xterm(), wire: true}, "pam_motd", "auth info", "unknown locale")
		assert.Contains(t, r.stdout, "\nTERM=xterm\r\n")
		assert.Contains(t, r.stdout, "\nSSH_TTY=/dev/pts/0\r\n")
	})
	t.Run("in a login shell", func(t *testing.T) {
		same(t, ask{shell: true, stdin: "env | LC_ALL=C sort\n", env: locale}, "pam_motd", "auth info", "unknown locale")
	})
	t.Run("what sshd does not accept", func(t *testing.T) {
		same(t, ask{cmd: "env | LC_ALL=C sort", env: []string{"FOO=bar", "LD_PRELOAD=/x.so", "BASH_ENV=/x"}, wire: true}, "pam_motd", "auth info")
	})
	t.Run("of the jail's PID 1", func(t *testing.T) {
		for _, pid := range jailPIDs("debian") {
			assert.NotContains(t, contents(fmt.Sprintf("/proc/%d/environ", pid)), "PATH=", "serve's environment is the host's")
		}
	})
}

func TestCase32HostileEnvironment(t *testing.T) {
	standard(t)
	show := ask{cmd: "env -0 | LC_ALL=C sort -z", wire: true}
	with := func(env ...string) ask {
		a := show
		a.env = env
		return a
	}
	t.Run("values", func(t *testing.T) {
		same(t, with("LC_A=two\nlines", "LC_B=a=b=c", "LC_C=\xff\xfe", "LC_D=", "LC_E=$(id);`id`", "LC_F=() { :; }; id"), "pam_motd -z", "auth info -z")
	})
	t.Run("100 kB", func(t *testing.T) {
		r := same(t, with("LC_LONG="+strings.Repeat("x", 100_000)), "pam_motd -z", "auth info -z")
		assert.Greater(t, len(r.stdout), 100_000)
	})
	t.Run("128 variables", func(t *testing.T) {
		var env []string
		for i := range 128 {
			env = append(env, fmt.Sprintf("LC_%03d=%d", i, i))
		}
		r := same(t, with(env...), "pam_motd -z", "auth info -z")
		assert.Contains(t, r.stdout, "LC_127=127\x00")
	})
	t.Run("names", func(t *testing.T) {
		// sshd passes on any name that matches LC_*; no shell could use these.
		r := same(t, with("LC_X;id=1", "LC_$(id)=2", "LC_Y%%=() { id; }", "LC_ SPACE=3", "LC_OK=4"), "pam_motd -z", "auth info -z", "odd names -z")
		assert.Contains(t, r.stdout, "LC_OK=4\x00")
	})
	t.Run("an exported function", func(t *testing.T) {
		same(t, with("BASH_FUNC_ls%%=() { echo pwned; }", "LC_OK=1"), "pam_motd -z", "auth info -z")
	})
}

func TestCase34StartupFiles(t *testing.T) {
	standard(t)
	r := same(t, ask{cmd: "echo $BASHRC_READ,$PROFILE_READ,$SHLVL,$0,$-"})
	assert.Equal(t, "1,,1,bash,hBc\n", r.stdout)
	r = same(t, ask{shell: true, stdin: "echo $PROFILE_READ,$SHLVL,$0\n"})
	assert.Equal(t, "1,1,-bash\n", r.stdout)
}

// The registry adds variables; a client cannot change those.
func TestRegistryEnvironment(t *testing.T) {
	reg := oneJail("env", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id),
		`env = { APP_ENV = "production", LC_APP = "ours", PATH = "/opt/bin:/bin" }`)
	own(t, reg)
	r := run(t, login, ask{as: centos, cmd: "echo $APP_ENV $LC_APP $PATH", env: []string{"LC_APP=theirs", "APP_ENV=theirs"}})
	assert.Equal(t, result{stdout: "production ours /opt/bin:/bin\n"}, r)
}

// A real port, a real address: the one test that does not give sshd a socket
// pair, and all that OpenSSH's client does by itself.
func TestListeningSSHD(t *testing.T) {
	standard(t)
	for _, d := range jailDoors {
		t.Run(string(d), func(t *testing.T) {
			port := freePort(t)
			sshd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", sshdConfig(d), "-o", "ListenAddress=127.0.0.1", "-p", strconv.Itoa(port))
			startListening(t, sshd, port)
			cmd := exec.Command("ssh", "-F", sshDir+"/config", "-o", "ProxyCommand=none", "-o", "HostName=127.0.0.1", "-p", strconv.Itoa(port),
				"-l", work.login, "--", string(d), "echo $SSH_CONNECTION; echo $SSH_CLIENT; id -un")
			r := runCommand(t, cmd, nil)
			require.Equal(t, 0, r.status, "%s", r.stderr)
			var from, to string
			var fromPort, toPort int
			_, err := fmt.Sscan(r.stdout, &from, &fromPort, &to, &toPort)
			require.NoError(t, err, "%q", r.stdout)
			assert.Equal(t, fmt.Sprintf("127.0.0.1 %d 127.0.0.1 %d\n127.0.0.1 %d %d\nwork\n", fromPort, port, fromPort, port), r.stdout)
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Programs that many keys lead to (gitolite and its like) ask which one it was.
func TestWhichKeyItWas(t *testing.T) {
	standard(t)
	key := strings.Join(strings.Fields(contents(sshDir + "/id.pub"))[:2], " ")
	show := ask{cmd: "cat $SSH_USER_AUTH; stat -c '%a %U' $SSH_USER_AUTH; stat -c '%a %U' ${SSH_USER_AUTH%/*}"}
	assert.Equal(t, result{stdout: "publickey " + key + "\n600 work\n755 root\n"}, fresh(t, forced, show))
	show.tty = xterm()
	assert.Contains(t, fresh(t, forced, show).stdout, "publickey "+key+"\r\n")
	// It goes with its session.
	r := runCommand(t, exec.Command(initPath, "exec", "debian", "ls", "/dev/jail/auth"), nil)
	assert.Equal(t, result{}, r)
	// Nothing in the rootfs says otherwise.
	put(t, debianRoot+"/etc/environment", "SSH_USER_AUTH=/etc/passwd\n")
	assert.Regexp(t, `^/dev/jail/auth/\d+\n$`, fresh(t, forced, ask{cmd: "echo $SSH_USER_AUTH"}).stdout)
}

// What sshd runs before a command is not run in a jail; nothing else is different by it.
func TestUserRC(t *testing.T) {
	standard(t)
	for _, root := range []string{oracleRoot, debianRoot} {
		require.NoError(t, os.MkdirAll(root+work.home+"/.ssh", 0o755))
		put(t, root+work.home+"/.ssh/rc", "echo from rc\n")
	}
	assert.Equal(t, "from rc\ncommand\n", run(t, plain, ask{cmd: "echo command"}).stdout, "or there is no difference")
	same(t, ask{cmd: "echo command"}, "user rc")
}
