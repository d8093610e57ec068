package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// entryForms are the ways other programs start a login shell. What they do is
// learnt from an account whose shell is argv; the login in the jail, whose
// shell inside is argv as well, must show the same. U stands for the login.
var entryForms = [][]string{
	{"su", "-", "U"},
	{"su", "U"},
	{"su", "-", "U", "-c", "x 'y  z'"},
	{"su", "U", "-c", "x"},
	{"su", "U", "-c", "x", "--", "a", "b"},
	{"su", "-", "U", "-c", "x", "--", "a b", "c"},
	{"su", "U", "a", "b"},
	{"su", "-", "U", "--", "-l"},
	{"su", "-f", "U"},
	{"su", "--session-command=x", "U"},
	{"runuser", "-l", "U"},
	{"runuser", "-l", "U", "-c", "x"},
	{"runuser", "-", "U", "-c", "x", "--", "a"},
	{"sudo", "-iu", "U"},
	{"sudo", "-iu", "U", "x", "y z", "$HOME;`id`"},
}

// consoleForms need a terminal.
var consoleForms = [][]string{
	{"su", "-P", "U", "-c", "x"},
	{"su", "-P", "-", "U"},
	{"login", "-f", "U"},
}

func TestCase53EntryForms(t *testing.T) {
	standard(t)
	as := func(form []string, login string) *exec.Cmd {
		args := append([]string(nil), form...)
		for i := range args {
			if args[i] == "U" {
				args[i] = login
			}
		}
		return exec.Command(args[0], args[1:]...)
	}
	for _, form := range entryForms {
		t.Run(strings.Join(form, " "), func(t *testing.T) {
			want := runCommand(t, as(form, argvPlain.login), nil)
			got := runCommand(t, as(form, argv.login), nil)
			require.Zero(t, want.status, "%s", want.stderr)
			assert.Equal(t, want, got, "an ordinary login first, then the jail")
		})
	}
	for _, form := range append(consoleForms, entryForms...) {
		t.Run(strings.Join(form, " ")+" on a console", func(t *testing.T) {
			plain := onConsole(t, as(form, argvPlain.login))
			require.Zero(t, plain.wait())
			jailed := onConsole(t, as(form, argv.login))
			require.Zero(t, jailed.wait())
			assert.Equal(t, plain.heard(), jailed.heard(), "an ordinary login first, then the jail")
		})
	}
}

// enter is jail-enter run as a login would run it: with that uid and no more,
// by that argv.
func enter(as account, env []string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: enterPath,
		Args: args,
		Env:  env,
		Dir:  "/",
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: uint32(as.id), Gid: uint32(as.id)},
		},
	}
}

func TestArgvForms(t *testing.T) {
	standard(t)
	const forcedText = "exec " + enterPath + " --forced"
	command := []string{"SSH_ORIGINAL_COMMAND=x  y"}
	for _, row := range []struct {
		claim string
		args  []string
		env   []string
		want  []string
	}{
		{"a login shell", []string{"-jail-enter"}, nil, []string{"-argv"}},
		{"no login shell", []string{"jail-enter"}, nil, []string{"argv"}},
		{"by its full path", []string{enterPath, "-c", "x"}, nil, []string{"argv", "-c", "x"}},
		{"a login shell with a command", []string{"-jail-enter", "-c", "x"}, nil, []string{"-argv", "-c", "x"}},
		{"flags in one", []string{"jail-enter", "-lc", "x y"}, nil, []string{"argv", "-lc", "x y"}},
		{"flags apart", []string{"jail-enter", "-l", "-c", "x"}, nil, []string{"argv", "-l", "-c", "x"}},
		{"long flags", []string{"jail-enter", "--login", "-c", "x"}, nil, []string{"argv", "--login", "-c", "x"}},
		{"interactive", []string{"jail-enter", "-ic", "x"}, nil, []string{"argv", "-ic", "x"}},
		{"a lone dash", []string{"jail-enter", "-"}, nil, []string{"argv", "-"}},
		{"two dashes", []string{"jail-enter", "--", "-c"}, nil, []string{"argv", "--", "-c"}},
		{"a flag of nobody's", []string{"jail-enter", "--version", "--help"}, nil, []string{"argv", "--version", "--help"}},
		{"empty arguments", []string{"jail-enter", "-c", "", ""}, nil, []string{"argv", "-c", "", ""}},
		{"forced, with a command", []string{"jail-enter", "-c", forcedText}, command, []string{"argv", "-c", "x  y"}},
		{"forced, with an empty command", []string{"jail-enter", "-c", forcedText}, []string{"SSH_ORIGINAL_COMMAND="}, []string{"argv", "-c", ""}},
		{"forced, without a command", []string{"jail-enter", "-c", forcedText}, nil, []string{"-argv"}},
		{"forced, directly", []string{"jail-enter", "--forced"}, command, []string{"argv", "-c", "x  y"}},
		{"forced, from another path", []string{"jail-enter", "-c", "exec /opt/sbin/jail-enter --forced"}, command, []string{"argv", "-c", "x  y"}},
		{"almost the forced text", []string{"jail-enter", "-c", forcedText + " "}, command, []string{"argv", "-c", forcedText + " "}},
		{"the forced text and more", []string{"jail-enter", "-c", forcedText + "; id"}, command, []string{"argv", "-c", forcedText + "; id"}},
		{"not forced: the original command is a leftover", []string{"-jail-enter", "-c", "mine"}, command, []string{"-argv", "-c", "mine"}},
		{"not forced, a login shell", []string{"-jail-enter"}, command, []string{"-argv"}},
	} {
		t.Run(row.claim, func(t *testing.T) {
			r := runCommand(t, enter(argv, row.env, row.args...), strings.NewReader(""))
			assert.Equal(t, result{stdout: quoted(row.want...)}, r)
		})
	}
}

// The transcript the project exists for.
func TestTranscript(t *testing.T) {
	standard(t)
	su := func(t *testing.T, login string) *console {
		c := onConsole(t, exec.Command("su", "-", login))
		c.toPrompt()
		return c
	}
	leave := func(c *console) {
		c.send("exit\n")
		assert.Zero(c.t, c.wait())
	}
	overSSH := func(as account) *live {
		l := open(t, forced, ask{as: as, shell: true, tty: xterm(), wire: true})
		l.toPrompt()
		return l
	}
	for _, jail := range []struct {
		as          account
		name, issue string
	}{{centos, "centos", "BusyBox"}, {work, "debian", "Debian GNU/Linux 12"}} {
		t.Run(jail.name, func(t *testing.T) {
			bySSH, bySu := overSSH(jail.as), su(t, jail.as.login)
			for _, d := range []*dialogue{&bySSH.dialogue, &bySu.dialogue} {
				assert.Equal(t, "work /home/work\r\n", d.enter("echo $(id -un) $(pwd)"))
				assert.Contains(t, d.enter("cat /etc/issue"), jail.issue)
				ps := d.enter("ps -o pid,args")
				if jail.name == "debian" {
					ps = d.enter("ps -e -o pid,args")
				}
				assert.Regexp(t, `(?m)^ *1 +jail-init: `+jail.name, ps)
				assert.NotContains(t, ps, "sshd")
				assert.NotContains(t, ps, "e2e")
			}
			bySSH.enter("sleep 4242 & echo hello >from-ssh")
			all := "ps -e -o args"
			if jail.name == "centos" {
				all = "ps -o args"
			}
			eventually(t, "the one sees what the other has started", func() bool {
				return strings.Contains(bySu.enter(all), "sleep 4242") // it has to execute first
			})
			assert.Contains(t, bySu.enter("cat from-ssh; rm from-ssh"), "hello")
			leave(bySu)
			bySSH.enter("kill %1")
			bySSH.send("exit\n")
			assert.Zero(t, bySSH.wait().status)
		})
	}
	t.Run("both at once", func(t *testing.T) {
		one, other := overSSH(centos), overSSH(work)
		assert.Contains(t, one.enter("cat /etc/issue"), "BusyBox")
		assert.Contains(t, other.enter("cat /etc/issue"), "Debian")
		assert.NotContains(t, other.enter("ps -e -o args"), "jail-init: centos")
		one.send("exit\n")
		other.send("exit\n")
		assert.Zero(t, one.wait().status)
		assert.Zero(t, other.wait().status)
	})
}

// The administrator's terminal is in the hands of jail-enter, never of the
// jail.
func TestCase29HostTerminal(t *testing.T) {
	standard(t)
	before := func(c *console) *unix.Termios {
		modes, err := unix.IoctlGetTermios(int(c.ptmx.Fd()), unix.TCGETS)
		require.NoError(t, err)
		return modes
	}
	// A shell that stays, as root's would, and su as its job.
	root := func(t *testing.T) *console {
		c := onConsole(t, exec.Command("bash", "--norc", "--noprofile", "-i"))
		c.send("PS1='ro''ot> '\n")
		c.expect(`root> `)
		return c
	}
	for _, form := range []string{"su - debian", "su debian", "runuser -l debian", "sudo -iu debian"} {
		t.Run(form, func(t *testing.T) {
			c := root(t)
			modes := before(c)
			c.send(form + "\n")
			c.expect(`\$ `)
			c.toPrompt()
			assert.NotEqual(t, modes, before(c), "raw while the jail's terminal does the editing")
			assert.Equal(t, "/dev/pts/0\r\n", c.enter("tty"))
			assert.Equal(t, "24 80\r\n", c.enter("stty size"))

			// Nothing in the jail has the host's terminal open.
			hostPts := deviceOf(t, "/dev/pts")
			for _, p := range running("") {
				if !inJail(p) {
					continue
				}
				for fd := range 256 {
					var st unix.Stat_t
					if unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", p.pid, fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
						assert.NotEqual(t, hostPts, st.Dev, "descriptor %d of process %d, %s", fd, p.pid, p.args)
					}
				}
			}
			// Injected input stays inside (TIOCSTI).
			c.enter(`python3 -c 'import fcntl
for ch in b"echo injected\n": fcntl.ioctl(0, 0x5412, bytes([ch]))' 2>/dev/null`)
			c.send("exit 5\n")
			c.expect(`root> `)
			assert.Equal(t, modes, before(c), "restored")
			c.send("echo status $?\n")
			c.expect(`status 5\r\n`)
			c.expect(`root> `)
			c.send("exit\n")
			c.wait()
		})
	}
	t.Run("jail-enter terminated", func(t *testing.T) {
		c := root(t)
		modes := before(c)
		c.send("su debian\n")
		c.toPrompt()
		var pid int
		eventually(t, "jail-enter is there", func() bool {
			for _, p := range running("jail-enter") {
				if uidOf(p.pid) == work.id {
					pid = p.pid
				}
			}
			return pid != 0
		})
		require.NoError(t, unix.Kill(pid, unix.SIGHUP))
		c.expect(`root> `)
		assert.Equal(t, modes, before(c))
		c.send("exit\n")
		c.wait()
	})
	t.Run("a command of su -c", func(t *testing.T) {
		c := onConsole(t, exec.Command("su", "-", "debian", "-c", "tty; stty size; exit 6"))
		modes := before(c)
		assert.Equal(t, 6, c.wait())
		assert.Equal(t, "/dev/pts/0\r\n24 80\r\n", c.heard())
		assert.Equal(t, modes, before(c))
	})
}

func deviceOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return st.Dev
}

// inJail tells the processes of jails by their pid namespace.
func inJail(p process) bool {
	ours, _ := os.Readlink("/proc/self/ns/pid")
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", p.pid))
	return err == nil && ours != theirs
}

func uidOf(pid int) int {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) != nil {
		return -1
	}
	return int(st.Uid)
}

// su of a user's leaves nothing of the caller's in the jail.
func TestNothingOfTheCaller(t *testing.T) {
	standard(t)
	cmd := exec.Command("su", "debian", "-c", "env; pwd; umask; cat /proc/self/loginuid; ls /proc/self/fd | wc -l; grep -E '^Sig(Ign|Blk)' /proc/self/status")
	cmd.Env = append(os.Environ(), "SECRET=token", "SUDO_USER=root", "SSH_ORIGINAL_COMMAND=id", "LD_LIBRARY_PATH=/x", "BASH_ENV=/x", "http_proxy=x")
	cmd.Dir = "/etc"
	r := runCommand(t, cmd, nil)
	require.Zero(t, r.status)
	for _, text := range []string{"SECRET", "SUDO_USER", "SSH_ORIGINAL_COMMAND", "LD_LIBRARY_PATH", "BASH_ENV", "http_proxy"} {
		assert.NotContains(t, r.stdout, text+"=")
	}
	assert.Contains(t, r.stdout, "\n/home/work\n0022\n")
	assert.Contains(t, r.stdout, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n")
}

// What is neither a pipe nor a terminal stays on the host; jail-enter copies.
func TestHostFiles(t *testing.T) {
	standard(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	f, err := os.Create(in)
	require.NoError(t, err)
	_, err = io.Copy(f, noise(8<<20))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	shell := func(script string) result {
		t.Helper()
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		return runCommand(t, cmd, nil)
	}
	t.Run("regular files", func(t *testing.T) {
		assert.Equal(t, result{status: 4}, shell("su debian -c 'cat; exit 4' <in >out"))
		f, err := os.Open(out)
		require.NoError(t, err)
		defer f.Close()
		assert.Equal(t, sum(noise(8<<20)), sum(f))
	})
	t.Run("appended to", func(t *testing.T) {
		require.NoError(t, os.WriteFile(out, []byte("one\n"), 0o600))
		assert.Equal(t, result{}, shell("su debian -c 'echo two; echo three >&2' </dev/null >>out 2>&1"))
		assert.ElementsMatch(t, []string{"one", "two", "three"}, sortedLines(contents(out)))
	})
	t.Run("half of a file", func(t *testing.T) {
		require.NoError(t, os.WriteFile(out, nil, 0o600))
		assert.Equal(t, result{status: 9}, shell("su debian -c 'head -c 10 >/dev/null; exit 9' <in"))
	})
	t.Run("null", func(t *testing.T) {
		assert.Equal(t, result{status: 5}, shell("su debian -c 'cat; echo x; echo y >&2; exit 5' </dev/null >/dev/null 2>&1"))
	})
	t.Run("a full disk", func(t *testing.T) {
		r := shell("su debian -c 'head -c 1000000 /dev/zero; echo $? >&2' >/dev/full")
		assert.Equal(t, 125, r.status)
		assert.Contains(t, r.stderr, "jail-enter: cannot write standard output: no space left on device\n")
		small := filepath.Join(dir, "small")
		require.NoError(t, os.Mkdir(small, 0o700))
		require.NoError(t, unix.Mount("small", small, "tmpfs", 0, "size=64k"))
		defer unix.Unmount(small, 0)
		r = shell("su debian -c 'head -c 100000 /dev/zero' >small/full")
		assert.Equal(t, 125, r.status)
		assert.Equal(t, 5, shell("su debian -c 'head -c 1000000 /dev/zero; exit 5' >/dev/full").status, "its own status tells more")
	})
	t.Run("an input that cannot be read", func(t *testing.T) {
		r := shell("su debian -c cat <.")
		assert.Equal(t, 125, r.status)
		assert.Equal(t, "jail-enter: cannot read standard input: is a directory\n", r.stderr)
	})
	t.Run("a directory", func(t *testing.T) {
		r := shell("su debian -c 'ls /proc/self/fd/0/ 2>&1; exit 6' <.")
		assert.Equal(t, 6, r.status)
		assert.NotContains(t, r.stdout, "out", "it is the host's")
	})
	t.Run("closed", func(t *testing.T) {
		assert.Equal(t, 7, shell("su debian -c 'echo x; exit 7' <&- >&- 2>&-").status)
	})
	t.Run("a socket", func(t *testing.T) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
		defer ours.Close()
		cmd := enter(work, nil, "jail-enter", "-c", "cat; echo end")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
		require.NoError(t, cmd.Start())
		theirs.Close()
		_, err = ours.WriteString("through\n")
		require.NoError(t, err)
		require.NoError(t, unix.Shutdown(fds[0], unix.SHUT_WR))
		text, err := io.ReadAll(ours)
		require.NoError(t, err)
		assert.Equal(t, "through\nend\n", string(text))
		require.NoError(t, cmd.Wait())
	})
}
