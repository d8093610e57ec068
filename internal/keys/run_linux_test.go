package keys

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/authkeys"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/needs"
)

func TestParseArgs(t *testing.T) {
	typ, key, _ := strings.Cut(keyA, " ")
	for name, test := range map[string]struct {
		args []string
		want string // error
	}{
		"a name alone":                       {[]string{"alice"}, ""},
		"a name and a key":                   {[]string{"alice", typ, key}, ""},
		"options, then --":                   {[]string{"--config", "/x", "--runtime-dir=/y", "--", "alice", typ, key}, ""},
		"a key of a type of the future":      {[]string{"alice", "ssh-new@openssh.com", "AAAA"}, ""},
		"nothing":                            {nil, errUsage.Error()},
		"a type without a key":               {[]string{"alice", typ}, errUsage.Error()},
		"one word too many":                  {[]string{"alice", typ, key, "x"}, errUsage.Error()},
		"an option after the name":           {[]string{"alice", "--config", "/x", "y"}, errUsage.Error()},
		"an unknown option":                  {[]string{"-x", "alice"}, errUsage.Error()},
		"a login name that is an option":     {[]string{"--config=/x", typ, key}, errUsage.Error()},
		"a login name beginning with a dash": {[]string{"--", "-h", typ, key}, "-h is not a login name"},
		"a login name with a slash":          {[]string{"../alice"}, "../alice is not a login name"},
		"a login name with control bytes":    {[]string{"a\x1b[31m\n"}, `a\x1b[31m\n is not a login name`},
		"an empty login name":                {[]string{""}, " is not a login name"},
		"a name of 300 bytes":                {[]string{strings.Repeat("a", 301)}, strings.Repeat("a", 300) + "... is not a login name"},
		"a key that is not one":              {[]string{"alice", typ, "AAAA"}, "offered key: malformed key"},
		"a key that is not base64":           {[]string{"alice", typ, "%k"}, "offered key: not base64"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseArgs(test.args)
			if test.want == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, test.want)
			}
		})
	}
	_, err := parseArgs([]string{"--help"})
	assert.True(t, errors.Is(err, flag.ErrHelp))
}

// hostUID is the host's, jailUID the one inside; both belong to nobody here.
const (
	hostUID = 60990
	jailUID = 60991
	jailGID = 60992
)

// host is a host with one jail, in a directory that a mount namespace of its
// own shows at /mnt to the real binary.
type host struct {
	t   *testing.T
	dir string
	bin string
}

func newHost(t *testing.T) *host {
	t.Helper()
	needs.Root(t, "it drops privileges")
	h := &host{t: t, dir: t.TempDir(), bin: binary(t)}
	h.write("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:60990:60990::/var/empty:/usr/bin/jail-enter\nbob:x:60989:60989::/:/bin/sh\n")
	h.write("group", "root:x:0:\nalice:x:60990:\n")
	h.registry("")
	h.write("root/etc/passwd", "work:x:60991:60992::/home/work:/bin/sh\n")
	h.write("root/home/work/.ssh/authorized_keys", keyA+"\n")
	for _, p := range []string{"home/work", "home/work/.ssh", "home/work/.ssh/authorized_keys"} {
		h.chown(p, jailUID, jailGID)
	}
	require.NoError(t, os.Chmod(h.path("root/home/work"), 0o700))
	// What sshd's user may not enter, only root opens.
	require.NoError(t, os.Chmod(h.dir, 0o700))
	return h
}

func (h *host) registry(more string) {
	h.write("jail.toml", fmt.Sprintf("version = 1\n[jail.web]\nrootfs = \"/mnt/root\"\nuserns = { base = 200000, size = 65536 }\n%s\n[jail.web.users]\nalice = { uid = %d, gid = %d }\n", more, jailUID, jailGID))
}

func (h *host) path(p string) string { return filepath.Join(h.dir, p) }

func (h *host) write(p, text string) {
	h.t.Helper()
	require.NoError(h.t, os.MkdirAll(filepath.Dir(h.path(p)), 0o755))
	require.NoError(h.t, os.WriteFile(h.path(p), []byte(text), 0o644))
}

func (h *host) chown(p string, uid, gid int) {
	h.t.Helper()
	require.NoError(h.t, os.Lchown(h.path("root/"+p), uid, gid))
}

// replaceKeys removes the keys file and returns its path.
func (h *host) replaceKeys() string {
	p := h.path("root/home/work/.ssh/authorized_keys")
	require.NoError(h.t, os.RemoveAll(p))
	return p
}

// command runs jail-keys in a mount namespace where h.dir is /mnt and the host
// has h's accounts. shell is run before, in that namespace.
func (h *host) command(shell string, args ...string) *exec.Cmd {
	script := `mount --bind "$0" /mnt && mount --bind /mnt/passwd /etc/passwd && mount --bind /mnt/group /etc/group &&
		{ ` + shell + `
		}; exec "$@"`
	args = append([]string{"-c", script, h.dir, h.bin, "--config", "/mnt/jail.toml"}, args...)
	cmd := exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
	return cmd
}

type result struct {
	out, err string
	status   int
}

func (h *host) run(args ...string) result {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.command(":", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	assert.NotContains(h.t, stderr.String(), "no answer in time", "it waits for nothing, and needs no deadline")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(h.t, err)
	}
	assert.LessOrEqual(h.t, strings.Count(stderr.String(), "\n"), 1, "more than one line: %s", stderr.String())
	assert.LessOrEqual(h.t, stderr.Len(), 1000)
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// What serve has left in the runtime directory is gone by, whatever has become of the
// registry and the accounts since.
func TestKeysAreOfTheRegistryInForce(t *testing.T) {
	h := newHost(t)
	publish := func(change func(*config.Registry)) {
		t.Helper()
		reg := &config.Registry{
			Jails: []jail.Spec{{Name: "web", Source: jail.Source{Path: "/mnt/root"}, Logins: []jail.Login{{Name: "alice", HostUID: hostUID, UID: jailUID, GID: jailGID, HasGID: true}}}},
			Faults: []config.Fault{{Jail: "db", Logins: []config.FaultyLogin{{Name: "carol", HostUID: 60988}},
				Errors: config.Errors{{File: "/mnt/jail.toml", Line: 9, Key: "jail.db.rootfs", Msg: "does not exist"}}}},
		}
		change(reg)
		require.NoError(t, os.MkdirAll(h.path("run"), 0o755))
		require.NoError(t, inforce.Publish(h.path("run"), "/mnt/jail.toml", reg))
	}
	run := func(args ...string) result {
		return h.run(append([]string{"--runtime-dir", "/mnt/run", "--"}, args...)...)
	}
	publish(func(*config.Registry) {})
	h.write("jail.toml", "version = 1\n[jail.web]\nrootfs = \"/mnt/elsewhere\"\nusers = [ \"alice\", \"bob\" ]\n")
	assert.Equal(t, good, run("alice"), "not what the file says meanwhile")
	assert.Equal(t, result{}, run("bob"), "not in force yet")
	h.write("jail.toml", "[")
	h.write("passwd", "root:x:0:0::/root:/bin/sh\n")
	assert.Equal(t, good, run("alice"))
	r := run("carol")
	assert.Empty(t, r.out)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.err, "carol is out of service: /mnt/jail.toml:9: jail.db.rootfs: does not exist")

	publish(func(reg *config.Registry) { reg.Jails = nil })
	assert.Equal(t, result{}, run("alice"), "no longer in force")

	require.NoError(t, os.Chmod(h.path("run/registry"), 0o666))
	r = run("alice")
	assert.Empty(t, r.out)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.err, "writable by others")

	require.NoError(t, os.Remove(h.path("run/registry")))
	assert.Equal(t, 1, run("alice").status, "the registry itself, which is not TOML")
}

// built is the directory binary builds in, "" before it has.
var built string

// binary builds jail-keys once.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(built, "jail-keys")
	if built == "" {
		var err error
		built, err = os.MkdirTemp("", "jail-keys-test")
		require.NoError(t, err)
		path = filepath.Join(built, "jail-keys")
		build := exec.Command("go", "build", "-o", path, "jail/cmd/jail-keys")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return path
}

func TestMain(m *testing.M) {
	status := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(status)
}

var good = result{out: ours + keyA + "\n"}

func TestProcess(t *testing.T) {
	t.Run("keys are found by name alone", func(t *testing.T) {
		assert.Equal(t, good, newHost(t).run("alice"))
	})
	t.Run("only the offered key is printed", func(t *testing.T) {
		h := newHost(t)
		assert.Equal(t, good, h.run(append([]string{"alice"}, strings.Fields(keyA)...)...))
		assert.Equal(t, result{}, h.run(append([]string{"alice"}, strings.Fields(keyB)...)...))
	})
	t.Run("an account without a jail has no keys", func(t *testing.T) {
		h := newHost(t)
		assert.Equal(t, result{}, h.run("bob"))
		assert.Equal(t, result{}, h.run("nosuchuser"))
	})
	t.Run("a missing file is no doubt", func(t *testing.T) {
		h := newHost(t)
		h.replaceKeys()
		assert.Equal(t, result{}, h.run("alice"))
		require.NoError(t, os.RemoveAll(h.path("root/home/work")))
		assert.Equal(t, result{}, h.run("alice"))
	})
	t.Run("a faulty registry means no keys", func(t *testing.T) {
		h := newHost(t)
		for text, says := range map[string]string{
			"version = 2": "jail.toml:1: version",
			"version = 1\n[jail.web]\nrotfs = \"/\"\nusers = [ \"alice\" ]": "alice is out of service: /mnt/jail.toml:2: jail.web.rootfs",
		} {
			h.write("jail.toml", text)
			r := h.run("alice")
			assert.Empty(t, r.out)
			assert.Equal(t, 1, r.status)
			assert.Contains(t, r.err, says)
		}
	})
	t.Run("a fault elsewhere is no matter", func(t *testing.T) {
		h := newHost(t)
		h.registry("[jail.x]\nrootfs = \"/srv/x\"\nusers = [ \"ghost\" ]\n")
		h.write("jail.d/x.toml", "[")
		assert.Equal(t, good, h.run("alice"))
		assert.Equal(t, result{}, h.run("bob"))
		assert.Equal(t, 1, h.run("ghost").status)
	})
	t.Run("an absolute symlink is resolved inside", func(t *testing.T) {
		h := newHost(t)
		require.NoError(t, os.Rename(h.path("root/home/work/.ssh"), h.path("root/ssh")))
		require.NoError(t, os.Symlink("/ssh", h.path("root/home/work/.ssh")))
		assert.Equal(t, good, h.run("alice"))
	})
	t.Run("the registry's home wins over the jail's", func(t *testing.T) {
		h := newHost(t)
		require.NoError(t, os.Rename(h.path("root/home/work"), h.path("root/home/moved")))
		h.write("jail.toml", fmt.Sprintf("version = 1\n[jail.web]\nrootfs = \"/mnt/root\"\nuserns = { base = 200000, size = 65536 }\n[jail.web.users]\nalice = { uid = %d, name = \"work\", home = \"/home/moved\" }\n", jailUID))
		require.NoError(t, os.Remove(h.path("root/etc/passwd")))
		assert.Equal(t, good, h.run("alice"))
	})
	t.Run("a mount over the home is looked into", func(t *testing.T) {
		h := newHost(t)
		require.NoError(t, os.Rename(h.path("root/home"), h.path("homes")))
		require.NoError(t, os.Mkdir(h.path("root/home"), 0o755))
		h.registry(`mounts = [ { source = "/mnt/homes", target = "/home" } ]`)
		assert.Equal(t, good, h.run("alice"))
	})
	t.Run("bytes from the jail do not reach the log raw", func(t *testing.T) {
		h := newHost(t)
		h.write("root/etc/passwd", "work:x:60991:60992::rel\x1b[31m"+strings.Repeat("x", 2000)+":/bin/sh\n")
		r := h.run("alice")
		assert.Equal(t, 1, r.status)
		assert.Empty(t, r.out)
		assert.NotContains(t, r.err, "\x1b")
	})
	// Without a deadline of its own it would not end at all: the test's is the guard.
	unanswered := func(t *testing.T, cmd *exec.Cmd) {
		t.Helper()
		require.NoError(t, cmd.Start())
		guard := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		defer guard.Stop()
		require.Error(t, cmd.Wait())
		assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	}
	t.Run("a reader that does not read is not waited for", func(t *testing.T) {
		t.Parallel() // it takes as long as a lookup may
		h := newHost(t)
		h.write("root/home/work/.ssh/authorized_keys", strings.Repeat(keyA+"\n", 999))
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		cmd := h.command(":", "alice")
		cmd.Stdout = w
		unanswered(t, cmd)
		w.Close()
	})
	t.Run("nor one of standard error", func(t *testing.T) {
		t.Parallel()
		h := newHost(t)
		h.write("root/home/work/.ssh/authorized_keys", strings.Repeat(keyA+"\n", 999))
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		fd := int(w.Fd())
		require.NoError(t, unix.SetNonblock(fd, true))
		for err == nil { // fill it
			_, err = unix.Write(fd, make([]byte, 4096))
		}
		require.Equal(t, unix.EAGAIN, err)
		require.NoError(t, unix.SetNonblock(fd, false))
		cmd := h.command(":", "alice")
		cmd.Stdout, cmd.Stderr = w, w
		unanswered(t, cmd)
		w.Close()
	})
	t.Run("privileges are gone before the rootfs is read", func(t *testing.T) {
		// A keys file of another, which only root could read; and the
		// process's own word, while it waits for its reader.
		h := newHost(t)
		h.write("root/home/work/.ssh/authorized_keys", strings.Repeat(keyA+"\n", 999))
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		cmd := h.command(":", "alice")
		cmd.Stdout = w
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 27, 42}}}
		require.NoError(t, cmd.Start())
		w.Close()
		_, err = io.ReadFull(r, make([]byte, 1)) // it is past the drop
		require.NoError(t, err)
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
		require.NoError(t, err)
		require.NotEmpty(t, tasks)
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			require.NoError(t, err)
			status := string(text)
			for _, want := range []string{
				"\nUid:\t2147418112\t60991\t2147418112\t60991\n", "\nGid:\t60992\t60992\t60992\t60992\n", "\nGroups:\t \n",
				"\nCapPrm:\t0000000000000000\n", "\nCapEff:\t0000000000000000\n", "\nCapAmb:\t0000000000000000\n",
			} {
				assert.Contains(t, status, want)
			}
		}
		// Who has that uid on the host cannot stop it.
		for _, task := range tasks {
			tid := filepath.Base(filepath.Dir(task))
			mayNothing(t, tid)
		}
		// Not dumpable: its files in /proc are root's.
		var st unix.Stat_t
		require.NoError(t, unix.Stat(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid), &st))
		assert.Zero(t, st.Uid)
		_, err = io.Copy(io.Discard, r)
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
	})
	t.Run("an ordinary user does what he may", func(t *testing.T) {
		h := newHost(t)
		require.NoError(t, os.Chmod(h.dir, 0o755))
		run := func(uid uint32) result {
			var stdout, stderr bytes.Buffer
			bin := h.path("jail-keys")
			copyFile(t, h.bin, bin)
			cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c",
				`mount --bind "$0" /mnt && mount --bind /mnt/passwd /etc/passwd && mount --bind /mnt/group /etc/group && exec setpriv --reuid `+
					fmt.Sprint(uid)+` --regid 60990 --clear-groups /mnt/jail-keys --config /mnt/jail.toml alice`, h.dir)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
		}
		assert.Equal(t, good, run(jailUID))
		r := run(hostUID)
		assert.Equal(t, 1, r.status)
		assert.Empty(t, r.out)
		assert.Contains(t, r.err, "permission denied")
	})
}

// mayNothing tries to do something to a thread, as a process of the login's files' owner.
func mayNothing(t *testing.T, tid string) {
	t.Helper()
	for _, line := range [][]string{{"kill", "-0", tid}, {"prlimit", "--nofile=9", "-p", tid}} {
		cmd := exec.Command(line[0], line[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: jailUID, Gid: jailGID}}
		out, err := cmd.CombinedOutput()
		assert.Error(t, err, "%v", line)
		assert.Contains(t, strings.ToLower(string(out)), "not permitted", "%v", line)
	}
}

// TestLookAsAThread: neither can he anything to the one thread of a program that looks.
func TestLookAsAThread(t *testing.T) {
	needs.Root(t, "it looks as another")
	root := newRootfs(t)
	require.NoError(t, os.Chmod(filepath.Dir(root.path), 0o755))
	spec := &jail.Spec{Name: "web", Source: jail.Source{Path: root.path}}
	lg := &jail.Login{Name: "alice", HostUID: hostUID, UID: jailUID, GID: jailGID, HasGID: true, JailName: "second", Home: "/home/second", Shell: "/bin/sh"}
	looked := false
	Look(spec, lg, func(s *Seen) {
		looked = true
		require.NoError(t, s.Err)
		tid := strconv.Itoa(unix.Gettid())
		done := make(chan struct{})
		go func() { // with root's rights again
			defer close(done)
			mayNothing(t, tid)
		}()
		<-done
	})
	assert.True(t, looked)
}

func copyFile(t *testing.T, from, to string) {
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o755))
}

// TestSlowMachine: whoever keeps a machine busy does not thereby shut others out. One system
// call takes as long as all of a lookup did where twelve programs wanted two processors.
func TestSlowMachine(t *testing.T) {
	strace := needs.Program(t, "strace")
	h := newHost(t)
	cmd := h.command(":", "alice")
	at := slices.Index(cmd.Args, h.bin)
	cmd.Args = slices.Insert(cmd.Args, at, strace, "-qq", "-f", "-o", "/dev/null", "-e", "inject=setgroups:delay_enter=1200000")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "ssh-")
}

// TestHostileFiles are the rows of the threat model that concern a file: no
// keys, status 1, and nothing that is waited for.
func TestHostileFiles(t *testing.T) {
	for name, test := range map[string]struct {
		make func(h *host)
		want string // in the reason; "" when the file counts as missing
	}{
		"Y1 symlink to a host file": {func(h *host) {
			require.NoError(t, os.Symlink("/etc/shadow", h.replaceKeys()))
		}, ""},
		"Y1 symlink to a host file by dot-dot": {func(h *host) {
			h.write("beside", keyB+"\n")
			require.NoError(t, os.Symlink("../../../../beside", h.replaceKeys()))
		}, ""},
		"Y1 symlink into /proc": {func(h *host) {
			require.NoError(t, os.Symlink("/proc/self/fd/0", h.replaceKeys()))
		}, ""},
		"Y1 .ssh leads to another's": {func(h *host) {
			h.write("root/home/other/.ssh/authorized_keys", keyB+"\n")
			for _, p := range []string{"home/other", "home/other/.ssh", "home/other/.ssh/authorized_keys"} {
				h.chown(p, 60000, 60000)
			}
			require.NoError(t, os.RemoveAll(h.path("root/home/work/.ssh")))
			require.NoError(t, os.Symlink("../other/.ssh", h.path("root/home/work/.ssh")))
		}, `"/home/other" is owned by uid 60000`},
		"Y1 symlink loop": {func(h *host) {
			require.NoError(t, os.Symlink("authorized_keys", h.replaceKeys()))
		}, "too many levels"},
		"Y2 FIFO":      {func(h *host) { require.NoError(t, unix.Mkfifo(h.replaceKeys(), 0o644)) }, "not a regular file"},
		"Y2 socket":    {func(h *host) { require.NoError(t, unix.Mknod(h.replaceKeys(), unix.S_IFSOCK|0o644, 0)) }, "not a regular file"},
		"Y2 directory": {func(h *host) { require.NoError(t, os.Mkdir(h.replaceKeys(), 0o755)) }, "not a regular file"},
		"Y2 device": {func(h *host) {
			require.NoError(t, unix.Mknod(h.replaceKeys(), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		}, "not a regular file"},
		"Y2 passwd is a FIFO": {func(h *host) {
			require.NoError(t, os.Remove(h.path("root/etc/passwd")))
			require.NoError(t, unix.Mkfifo(h.path("root/etc/passwd"), 0o644))
		}, "not a regular file"},
		"Y3 write lease": {func(h *host) {
			f, err := os.OpenFile(h.path("root/home/work/.ssh/authorized_keys"), os.O_RDWR, 0)
			require.NoError(t, err)
			h.t.Cleanup(func() { f.Close() })
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
			require.NoError(t, err)
		}, "resource temporarily unavailable"},
		"Y4 sparse file of 50 GB": {func(h *host) {
			require.NoError(t, os.Truncate(h.path("root/home/work/.ssh/authorized_keys"), 50<<30))
		}, "file too large"},
		"Y4 line of 10 MB": {func(h *host) {
			h.write("root/home/work/.ssh/authorized_keys", strings.Repeat("x", 10<<20))
		}, "file too large"},
		"Y4 passwd of 50 GB": {func(h *host) {
			require.NoError(t, os.Truncate(h.path("root/etc/passwd"), 50<<30))
		}, "file too large"},
		"Y10 no home in the jail's passwd": {func(h *host) { h.write("root/etc/passwd", "x:x:1:1::/:\n") }, "uid 60991 has no entry"},
		"Y10 home that is not a path": {func(h *host) {
			h.write("root/etc/passwd", "work:x:60991:60992::home/work:/bin/sh\n")
		}, "not an absolute path"},
		"Y10 home above the root": {func(h *host) {
			h.write("root/etc/passwd", "work:x:60991:60992::/../../../../root:/bin/sh\n")
		}, ""},
		"Y11 file writable by the group": {func(h *host) {
			require.NoError(t, os.Chmod(h.path("root/home/work/.ssh/authorized_keys"), 0o664))
		}, "writable by others (mode 0664)"},
		"Y11 .ssh writable by all": {func(h *host) {
			require.NoError(t, os.Chmod(h.path("root/home/work/.ssh"), 0o777))
		}, `"/home/work/.ssh" is writable by others`},
		"Y11 home writable by the group": {func(h *host) {
			require.NoError(t, os.Chmod(h.path("root/home/work"), 0o770))
		}, `"/home/work" is writable by others`},
		"Y11 file of another": {func(h *host) { h.chown("home/work/.ssh/authorized_keys", 60000, 60000) }, "owned by uid 60000"},
		"Y11 home of another": {func(h *host) {
			require.NoError(t, os.Chmod(h.path("root/home/work"), 0o755))
			h.chown("home/work", 60000, 60000)
		}, `"/home/work" is owned by uid 60000`},
		"Y11 file that its owner may not read": {func(h *host) {
			require.NoError(t, os.Chmod(h.path("root/home/work/.ssh/authorized_keys"), 0o000))
		}, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			test.make(h)
			r := h.run("alice")
			assert.Empty(t, r.out)
			if test.want == "" {
				assert.Equal(t, result{}, r)
				return
			}
			assert.Equal(t, 1, r.status)
			assert.Contains(t, r.err, test.want)
		})
	}
}

func TestHostileLines(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want result
	}{
		"Y4 a million lines in 256 KiB": {strings.Repeat("\n", authkeys.MaxFile), result{err: "jail-keys: alice: only the first 1000 lines count\n"}},
		"Y4 CRLF":                       {keyA + "\r\n", good},
		"Y4 no last line end":           {keyA, good},
		"Y4 a BOM kills its line":       {"\ufeff" + keyB + "\n" + keyA, result{good.out, "jail-keys: alice: line 1 ignored: unknown option\n", 0}},
		"Y4 NUL and escapes": {keyB + " \x00\x1b[2J\n" + keyA + " \x1b[2J", result{good.out,
			"jail-keys: alice: line 1 ignored: NUL byte\n", 0}},
		"Y5 options reach sshd only if they are harmless": {
			`restrict,pty,environment="LD_PRELOAD=/x",tunnel="1",user-rc ` + keyA,
			result{out: "restrict,pty," + ours + keyA + "\n"}},
		"Y5 a command gives way to the binding, and is honoured inside": {`command="rrsync /" ` + keyA, result{
			out: ours + keyA + "\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.write("root/home/work/.ssh/authorized_keys", test.text)
			assert.Equal(t, test.want, h.run("alice"))
		})
	}
}
