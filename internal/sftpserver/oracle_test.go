package sftpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// OpenSSH's server is the oracle: both get the same requests in the same
// directory, and what they answer is compared byte for byte, but for what a
// second run cannot have again (times of now, free blocks, inode numbers).

// oracle is OpenSSH's server, on Debian in package openssh-sftp-server.
const oracle = "/usr/lib/openssh/sftp-server"

var ownServer string // jail-sftp-server, built by TestMain

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sftpserver-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		_ = os.Chmod(dir, 0o755)
		ownServer = filepath.Join(dir, "jail-sftp-server")
		build := exec.Command("go", "build", "-o", ownServer, "jail/cmd/jail-sftp-server")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func needOracle(t *testing.T) {
	t.Helper()
	needs.Program(t, oracle)
}

// client talks to one server and writes down what it answers.
type client struct {
	t    *testing.T
	dir  string // where the server was started
	in   io.WriteCloser
	out  io.Reader
	cmd  *exec.Cmd
	id   uint32
	said strings.Builder
	err  bytes.Buffer
}

// startServer starts a server in dir, as an ordinary user if the test is root.
func startServer(t *testing.T, program, dir string, args ...string) *client {
	t.Helper()
	c := &client{t: t, dir: dir}
	c.cmd = exec.Command(program, args...)
	c.cmd.Dir = dir
	c.cmd.Env = []string{"HOME=/nonexistent", "USER=nobody", "TZ=UTC", "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22"}
	if os.Geteuid() == 0 {
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	} else {
		c.cmd.Env[1] = "USER=" + os.Getenv("USER")
	}
	c.cmd.Stderr = &c.err
	var err error
	c.in, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	c.out, err = c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

const nobody = 65534

func (c *client) note(format string, args ...any) { fmt.Fprintf(&c.said, format+"\n", args...) }

func frame(p []byte) []byte { return append(putU32(nil, uint32(len(p))), p...) }

// raw sends bytes as they are.
func (c *client) raw(p []byte) {
	c.t.Helper()
	_, err := c.in.Write(p)
	require.NoError(c.t, err)
}

// receive reads one answer; nil if the server has gone.
func (c *client) receive() []byte {
	c.t.Helper()
	var head [4]byte
	_, err := io.ReadFull(c.out, head[:])
	if errors.Is(err, io.EOF) {
		return nil
	}
	require.NoError(c.t, err)
	p := make([]byte, getU32(head[:]))
	_, err = io.ReadFull(c.out, p)
	require.NoError(c.t, err)
	return p
}

func (c *client) hello() {
	c.t.Helper()
	c.raw(frame(putU32([]byte{typeInit}, 3)))
	c.note("version %q", c.receive())
}

// ask sends one request, of a type or of an extension's name, and returns the
// answer, which is noted under what it says of itself.
func (c *client) ask(what string, kind any, body []byte) []byte {
	c.t.Helper()
	c.send(kind, body)
	return c.answer(what)
}

func (c *client) send(kind any, body []byte) {
	c.t.Helper()
	c.id++
	var p []byte
	switch k := kind.(type) {
	case int:
		p = putU32([]byte{byte(k)}, c.id)
	case string:
		p = putString(putU32([]byte{typeExtended}, c.id), k)
	}
	c.raw(frame(append(p, body...)))
}

func (c *client) answer(what string) []byte {
	c.t.Helper()
	p := c.receive()
	if p == nil {
		_ = c.cmd.Wait() // which is when all of its standard error is there
		require.FailNow(c.t, "no answer", "%s; stderr: %s", what, c.err.String())
	}
	c.note("%s: %s", what, describe(p))
	return p
}

// recentTime is that of a file just made. It has the year instead of the time where
// the file system's clock was ahead of time(2), which lags by up to a tick.
var recentTime = regexp.MustCompile(`[A-Z][a-z]{2} [ \d]\d (\d\d:\d\d| ` + strconv.Itoa(time.Now().Year()) + `)`)

// describe writes an answer in a way that a second run can repeat.
func describe(p []byte) string {
	in := reader{b: p}
	code, id := in.u8(), in.u32()
	var s strings.Builder
	fmt.Fprintf(&s, "#%d ", id)
	attributes := func() {
		a := in.attrs()
		const now = 1_700_000_000 // and what follows; no test sets such a time
		for _, at := range []*uint32{&a.atime, &a.mtime} {
			if *at > now && *at < 1<<32-1 {
				*at = 1
			}
		}
		fmt.Fprintf(&s, "{%x size %d owner %d:%d perm %o times %d %d}", a.flags, a.size, a.uid, a.gid, a.perm, a.atime, a.mtime)
	}
	switch code {
	case typeStatus:
		fmt.Fprintf(&s, "status %d", in.u32())
		if len(in.b) > 0 {
			fmt.Fprintf(&s, " %q %q", in.bytes(), in.bytes())
		}
	case typeHandle:
		fmt.Fprintf(&s, "handle %x", in.bytes())
	case typeData:
		d := in.bytes()
		fmt.Fprintf(&s, "data %d %.40q", len(d), d)
	case typeAttrs:
		attributes()
	case typeName:
		n := in.u32()
		var lines []string
		whole := s
		for ; n > 0; n-- {
			s = strings.Builder{}
			fmt.Fprintf(&s, "%q ", in.bytes())
			fmt.Fprintf(&s, "%q ", recentTime.ReplaceAllString(string(in.bytes()), "RECENT"))
			attributes()
			lines = append(lines, s.String())
		}
		slices.Sort(lines)
		s = strings.Builder{}
		fmt.Fprintf(&s, "%snames %d %s", whole.String(), len(lines), strings.Join(lines, ", "))
	default:
		fmt.Fprintf(&s, "type %d, %d bytes", code, len(p))
		in.b = nil
	}
	if in.bad || len(in.b) > 0 {
		fmt.Fprintf(&s, " MALFORMED %q", p)
	}
	return s.String()
}

// end closes the server's input and notes how it ended.
func (c *client) end() {
	c.t.Helper()
	c.in.Close()
	rest, err := io.ReadAll(c.out)
	require.NoError(c.t, err)
	err = c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	c.note("end: %d bytes more, status %d", len(rest), c.cmd.ProcessState.ExitCode())
}

// compare runs the steps against both servers, each in a directory of the same
// name with nothing in it, and compares what they said. It returns what ours said.
func compare(t *testing.T, steps func(c *client), args ...string) string {
	t.Helper()
	return compareIn(t, func(t *testing.T, home string) {
		require.NoError(t, os.RemoveAll(home))
		require.NoError(t, os.Mkdir(home, 0o755))
		if os.Geteuid() == 0 {
			require.NoError(t, os.Chown(home, nobody, nobody))
		}
	}, steps, args...)
}

// compareIn is compare in a directory that furnish makes, once for each.
func compareIn(t *testing.T, furnish func(t *testing.T, home string), steps func(c *client), args ...string) string {
	t.Helper()
	needOracle(t)
	// Not t.TempDir: nobody else may enter that.
	dir, err := os.MkdirTemp("/tmp", "sftp-oracle-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	// What is listed, also two levels up, is of this test alone.
	above := filepath.Join(dir, "above")
	require.NoError(t, os.Mkdir(above, 0o755))
	home := filepath.Join(above, "home")
	said := map[string]string{}
	for _, program := range []string{oracle, ownServer} {
		furnish(t, home)
		c := startServer(t, program, home, args...)
		steps(c)
		c.end()
		said[program] = c.said.String()
	}
	want, got := strings.Split(said[oracle], "\n"), strings.Split(said[ownServer], "\n")
	for i := range max(len(want), len(got)) {
		var w, g string
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if strings.HasPrefix(w, noFile) {
			w = strings.Replace(w, `status 2 "No such file"`, `status 4 "Failure"`, 1)
		}
		assert.Equal(t, w, g, "OpenSSH's server first, then this one")
	}
	return said[ownServer]
}

// noFile is a copy with a handle that is none of a file. OpenSSH's server says Failure
// of it, from 10.4 on No such file (sftp-server.c:process_extended_copy_data).
const noFile = "copy of no file"

func str(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = putString(b, p)
	}
	return b
}

func withAttrs(b []byte, a attrs) []byte { return putAttrs(b, &a) }

// handleOf returns the handle in an answer.
func handleOf(p []byte) string {
	if len(p) == 0 || p[0] != typeHandle {
		return "none"
	}
	in := reader{b: p[5:]}
	return string(in.bytes())
}

func (c *client) open(path string, flags uint32, a attrs) string {
	c.t.Helper()
	p := c.ask(fmt.Sprintf("open %.80q %x %o", path, flags, a.perm), typeOpen, withAttrs(putU32(str(path), flags), a))
	return handleOf(p)
}

func (c *client) put(h string, off uint64, data string) {
	c.t.Helper()
	c.ask(fmt.Sprintf("write at %d", off), typeWrite, append(putU64(str(h), off), str(data)...))
}

func (c *client) get(h string, off uint64, n uint32) []byte {
	c.t.Helper()
	return c.ask(fmt.Sprintf("read %d at %d", n, off), typeRead, putU32(putU64(str(h), off), n))
}

func (c *client) close(h string) { c.t.Helper(); c.ask("close", typeClose, str(h)) }

func (c *client) stat(path string) {
	c.t.Helper()
	c.ask(fmt.Sprintf("stat %.80q", path), typeStat, str(path))
	c.ask(fmt.Sprintf("lstat %.80q", path), typeLstat, str(path))
}

// file makes a file of the given content and an old date.
func (c *client) file(path, text string) {
	c.t.Helper()
	h := c.open(path, openWrite|openCreate|openTrunc, attrs{})
	c.put(h, 0, text)
	c.ask("fsetstat", typeFsetstat, withAttrs(str(h), attrs{flags: attrTimes, atime: 1000000000, mtime: 1100000000}))
	c.close(h)
}

// list reads a whole directory and notes all names in order.
func (c *client) list(path string) {
	c.t.Helper()
	h := handleOf(c.ask("opendir "+strconv.Quote(path), typeOpendir, str(path)))
	var names []string
	batches := 0
	for {
		c.send(typeReaddir, str(h))
		p := c.receive()
		require.NotEmpty(c.t, p)
		if p[0] != typeName {
			c.note("readdir: %s", describe(p))
			break
		}
		batches++
		in := reader{b: p[5:]}
		for n := in.u32(); n > 0; n-- {
			name := in.text()
			long := recentTime.ReplaceAllString(in.text(), "RECENT")
			in.attrs()
			names = append(names, fmt.Sprintf("%q %q", name, long))
		}
		require.False(c.t, in.bad)
	}
	slices.Sort(names)
	c.note("%d names in %d batches: %s", len(names), batches, strings.Join(names, "\n"))
	c.close(h)
}

func TestFiles(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		h := c.open("new", openWrite|openCreate|openTrunc, attrs{flags: attrPermissions, perm: 0o640})
		c.put(h, 0, "hello")
		c.put(h, 10, "world")
		c.put(h, 5, "")
		c.put(h, 1<<63, "x")
		c.get(h, 0, 5)
		c.ask("fstat", typeFstat, str(h))
		c.close(h)
		c.close(h)
		c.stat("new")
		h = c.open("new", openRead, attrs{})
		c.get(h, 0, 100)
		c.get(h, 14, 100)
		c.get(h, 15, 100)
		c.get(h, 1<<40, 1)
		c.get(h, 1<<63, 1)
		c.get(h, 1<<63, 0)
		c.get(h, 0, 0)
		c.get(h, 0, 1<<31)
		c.put(h, 0, "x")
		c.close(h)
		// Exclusive, truncating, appending, resuming.
		c.open("new", openWrite|openCreate|openExcl, attrs{})
		h = c.open("excl", openWrite|openCreate|openExcl, attrs{})
		c.close(h)
		h = c.open("new", openWrite|openAppend, attrs{})
		c.put(h, 0, "appended")
		c.put(h, 1<<63, "again")
		c.close(h)
		h = c.open("new", openWrite, attrs{})
		c.put(h, 20, "resumed")
		c.close(h)
		h = c.open("new", openRead|openWrite, attrs{})
		c.get(h, 0, 100)
		c.put(h, 0, "H")
		c.get(h, 0, 3)
		c.close(h)
		h = c.open("new", openRead|openTrunc, attrs{})
		c.get(h, 0, 100)
		c.close(h)
		// No flag at all, flags nobody knows, modes with more than permissions.
		h = c.open("new", 0, attrs{})
		c.get(h, 0, 1)
		c.close(h)
		c.open("odd", openWrite|openCreate|0x40, attrs{flags: attrPermissions, perm: 0o107777})
		c.stat("odd")
		// Beyond 4 GiB, with a hole.
		h = c.open("sparse", openRead|openWrite|openCreate, attrs{})
		c.put(h, 5<<30, "end")
		c.get(h, 5<<30-2, 10)
		c.get(h, 3<<30, 4)
		c.close(h)
		c.stat("sparse")
		for _, path := range []string{"", "missing", "new/below", "/", ".", "..", "missing/below", strings.Repeat("x", 256), strings.Repeat("x/", 2100)} {
			c.open(path, openRead, attrs{})
			c.open(path, openWrite, attrs{})
			c.open(path, openWrite|openCreate, attrs{})
			c.stat(path)
		}
		// Handles are used again, the last one closed first.
		a, b := c.open("a", openWrite|openCreate, attrs{}), c.open("b", openWrite|openCreate, attrs{})
		c.close(a)
		c.close(b)
		c.open("a", openRead, attrs{})
		c.open("b", openRead, attrs{})
		for _, bad := range []string{"", "\x00", "\x00\x00\x00\x63", "\xff\xff\xff\xff", "\x00\x00\x00\x00\x00", strings.Repeat("h", 300)} {
			c.get(bad, 0, 1)
			c.put(bad, 0, "x")
			c.close(bad)
			c.ask("fstat", typeFstat, str(bad))
			c.ask("readdir", typeReaddir, str(bad))
			c.ask("fsync", "fsync@openssh.com", str(bad))
			c.ask("fstatvfs", "fstatvfs@openssh.com", str(bad))
			c.ask("fsetstat", typeFsetstat, withAttrs(str(bad), attrs{}))
		}
	})
}

func TestNames(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		for _, name := range []string{
			"two words", "new\nline", `q"uo'te`, "back\\slash", "-dash", "*", "\xff\xfe invalid", "\u00fc\u4e2d", "\x01\x1b[31m", strings.Repeat("n", 255),
		} {
			c.file(name, "x")
			c.stat(name)
			c.ask("realpath", typeRealpath, str(name))
		}
		c.file("trailing NUL\x00", "x")
		c.list(".")
		for _, name := range []string{"two words", "new\nline", "\xff\xfe invalid"} {
			c.ask("rename", typeRename, str(name, name+" moved"))
			c.ask("remove", typeRemove, str(name+" moved"))
		}
		c.list(".")
	})
}

func TestChanges(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		c.file("f", "0123456789")
		set := func(path string, a attrs) {
			c.ask("setstat", typeSetstat, withAttrs(str(path), a))
			c.stat(path)
			c.ask("lsetstat", "lsetstat@openssh.com", withAttrs(str(path), a))
			c.stat(path)
		}
		c.ask("symlink", typeSymlink, str("f", "link"))
		c.ask("symlink", typeSymlink, str("missing", "dangling"))
		c.ask("mkdir", typeMkdir, withAttrs(str("d"), attrs{}))
		for _, path := range []string{"f", "link", "dangling", "d", "missing", "/etc/passwd"} {
			for _, a := range []attrs{
				{flags: attrSize, size: 4}, {flags: attrSize, size: 1 << 63}, {flags: attrSize, size: 1 << 33},
				{flags: attrPermissions, perm: 0o4750}, {flags: attrPermissions, perm: 0o177777},
				{flags: attrTimes, atime: 1, mtime: 0xFFFFFFFF},
				{flags: attrOwner, uid: 0, gid: 0}, {flags: attrOwner, uid: nobody, gid: nobody}, {flags: attrOwner, uid: 0xFFFFFFFF, gid: 0xFFFFFFFF},
				{flags: attrPermissions | attrTimes | attrOwner, perm: 0o644, atime: 5, mtime: 6, uid: 1, gid: 1},
				{},
			} {
				set(path, a)
			}
		}
		h := c.open("f", openRead, attrs{})
		for _, a := range []attrs{{flags: attrSize, size: 1}, {flags: attrPermissions, perm: 0o600}, {flags: attrTimes, atime: 9, mtime: 8}, {flags: attrOwner, uid: 0}} {
			c.ask("fsetstat", typeFsetstat, withAttrs(str(h), a))
		}
		c.stat("f")
		// Attributes with extensions nobody knows.
		ext := append(putU32(putU32(str("f"), attrExtended|attrPermissions), 0o640), append(putU32(nil, 1), str("acl@example.org", "x")...)...)
		c.ask("setstat with extensions", typeSetstat, ext)
		c.stat("f")
	})
}

func TestPaths(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		c.file("f", "x")
		for _, mode := range []uint32{0o777, 0o700, 0o7777, 0o40755, 0} {
			name := "d" + strconv.FormatUint(uint64(mode), 8)
			c.ask("mkdir", typeMkdir, withAttrs(str(name), attrs{flags: attrPermissions, perm: mode}))
			c.stat(name)
			c.list(name)
		}
		c.ask("mkdir", typeMkdir, withAttrs(str("d"), attrs{}))
		c.ask("mkdir", typeMkdir, withAttrs(str("d"), attrs{}))
		c.ask("mkdir", typeMkdir, withAttrs(str("x/y"), attrs{}))
		c.ask("mkdir", typeMkdir, withAttrs(str("/etc/x"), attrs{}))
		c.file("d/inside", "x")
		for _, path := range []string{"d", "f", "missing", "/etc", ".", ""} {
			c.ask("rmdir "+path, typeRmdir, str(path))
		}
		for _, path := range []string{"d", "missing", "/etc/passwd", "f/x", ""} {
			c.ask("remove "+path, typeRemove, str(path))
		}
		for _, link := range [][2]string{{"f", "link"}, {"f", "link"}, {"/nowhere", "dangling"}, {"loop2", "loop1"}, {"loop1", "loop2"}, {"d", "dirlink"}, {"/", "rootlink"}, {"..", "up"}, {"", "empty"}, {"x", "missing/x"}, {strings.Repeat("y", 4095), "long"}} {
			c.ask("symlink", typeSymlink, str(link[0], link[1]))
			c.ask("readlink", typeReadlink, str(link[1]))
			c.stat(link[1])
		}
		c.ask("readlink of a file", typeReadlink, str("f"))
		c.ask("readlink of nothing", typeReadlink, str("missing"))
		for _, path := range []string{
			"", ".", "..", "/", "//", "/.", "/..", "f", "./f", "d/../f", "d//inside", "d/inside/", "f/", "f/x", "f/..", "missing", "missing/", "missing/x", "missing/..",
			"link", "dangling", "dangling/x", "loop1", "loop1/x", "dirlink", "dirlink/inside", "dirlink/..", "dirlink/missing", "rootlink/etc", "up/home", "up/up",
			"/etc/../tmp", strings.Repeat("x", 256), strings.Repeat("d/../", 900), strings.Repeat("./", 2047), "~", "~/f", "~root", "~root/x", "~nobody", "~nosuchuser", "long",
		} {
			c.ask(fmt.Sprintf("realpath %.60q", path), typeRealpath, str(path))
			c.ask(fmt.Sprintf("expand %.60q", path), "expand-path@openssh.com", str(path))
		}
		// A chain of links as long as is followed, and one longer.
		for i := range 40 {
			c.ask("chain", typeSymlink, str("chain"+strconv.Itoa(i), "chain"+strconv.Itoa(i+1)))
		}
		c.file("chain0", "x")
		for _, n := range []int{31, 32, 33, 34, 35, 40} {
			c.ask("realpath of a chain", typeRealpath, str("chain"+strconv.Itoa(n)))
		}
	})
}

func TestRenames(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		for _, extension := range []any{typeRename, "posix-rename@openssh.com", "hardlink@openssh.com"} {
			base := fmt.Sprint(extension)[:2]
			p := func(s string) string { return base + s }
			c.file(p("a"), "a")
			c.file(p("b"), "b")
			c.ask("mkdir", typeMkdir, withAttrs(str(p("d")), attrs{}))
			c.ask("mkdir", typeMkdir, withAttrs(str(p("full")), attrs{}))
			c.file(p("full/x"), "x")
			c.ask("symlink", typeSymlink, str(p("a"), p("link")))
			c.ask("symlink", typeSymlink, str("nowhere", p("dangling")))
			for _, pair := range [][2]string{
				{"a", "new"}, {"new", "b"}, {"b", "b"}, {"missing", "x"}, {"b", "missing/x"}, {"b", "d"}, {"d", "b"}, {"d", "full"}, {"d", "e"}, {"e", "e/inside"},
				{"link", "link2"}, {"link2", "b"}, {"dangling", "dangling2"}, {"b", "dangling2"}, {"full", "d2"}, {"b", ""}, {"", "b"},
			} {
				c.ask(fmt.Sprintf("%v %q", extension, pair), extension, str(p(pair[0]), p(pair[1])))
				c.list(".")
			}
			c.ask("to /etc", extension, str(p("b"), "/etc/x"))
			c.ask("from /etc", extension, str("/etc/passwd", p("passwd")))
			c.ask("across", extension, str(p("b"), "/dev/shm/jail-sftp-test"))
			c.ask("back", extension, str("/dev/shm/jail-sftp-test", p("b")))
		}
	})
}

func TestDirectories(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		c.ask("mkdir", typeMkdir, withAttrs(str("many"), attrs{}))
		for i := range 2000 {
			c.send(typeOpen, withAttrs(putU32(str(fmt.Sprintf("many/a rather ordinary name %05d", i)), openWrite|openCreate), attrs{}))
			h := handleOf(c.receive())
			c.send(typeClose, str(h))
			c.receive()
		}
		c.list("many")
		c.list("many/")
		c.list("/etc/ssh")
		c.list("missing")
		c.list("many/a rather ordinary name 00000")
		c.list("")
		c.ask("mkdir", typeMkdir, withAttrs(str("shut"), attrs{flags: attrPermissions, perm: 0}))
		c.list("shut")
		c.ask("mkdir", typeMkdir, withAttrs(str("dark"), attrs{flags: attrPermissions, perm: 0o700}))
		c.file("dark/x", "x")
		c.ask("chmod", typeSetstat, withAttrs(str("dark"), attrs{flags: attrPermissions, perm: 0o400}))
		c.list("dark")
		c.stat("dark/x")
		// A directory's handle is no file's.
		h := handleOf(c.ask("opendir", typeOpendir, str("many")))
		c.get(h, 0, 1)
		c.put(h, 0, "x")
		c.ask("fstat", typeFstat, str(h))
		c.ask("fsync", "fsync@openssh.com", str(h))
		f := c.open("many/a rather ordinary name 00000", openRead, attrs{})
		c.ask("readdir of a file", typeReaddir, str(f))
		f = c.open("many", openRead, attrs{})
		c.get(f, 0, 10)
	})
}

func TestExtensions(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		c.file("from", strings.Repeat("0123456789", 20000))
		c.file("short", "0123456789")
		copying := func(what, from string, off, n uint64, to string, at uint64) {
			c.ask(what, "copy-data", putU64(append(putU64(putU64(str(from), off), n), str(to)...), at))
		}
		copyData := func(from string, off, n uint64, to string, at uint64) {
			copying(fmt.Sprintf("copy %d at %d to %d", n, off, at), from, off, n, to, at)
		}
		from, to := c.open("from", openRead, attrs{}), c.open("to", openRead|openWrite|openCreate, attrs{})
		short, end := c.open("short", openRead|openWrite, attrs{}), c.open("end", openWrite|openCreate|openAppend, attrs{})
		copyData(from, 0, 0, to, 0)
		copyData(from, 100, 50, to, 1<<33)
		copyData(from, 100, 0, to, 7)
		copyData(short, 3, 100, to, 0)
		copyData(short, 0, 100000, to, 0)
		copyData(short, 0, 200000, to, 0)
		copyData(short, 10, 1, to, 0)
		copyData(short, 100, 0, to, 0)
		copyData(from, 1<<63, 1, to, 0)
		copyData(from, 0, 1, to, 1<<63)
		copyData(from, 0, 10, from, 100)
		copyData(from, 5, 10, end, 1000)
		copyData(from, 5, 10, end, 1<<63)
		copying(noFile, "none", 0, 0, to, 0)
		copying(noFile, from, 0, 0, "none", 0)
		dir := handleOf(c.ask("opendir", typeOpendir, str(".")))
		copying(noFile, dir, 0, 0, to, 0)
		for _, f := range []string{"to", "end", "short"} {
			c.stat(f)
			h := c.open(f, openRead, attrs{})
			c.get(h, 0, 60)
			c.close(h)
		}
		c.ask("fsync", "fsync@openssh.com", str(to))
		c.ask("fsync", "fsync@openssh.com", str(from))
		limits := c.ask("limits", "limits@openssh.com", nil)
		c.note("%x", limits)
		c.ask("home of root", "home-directory", str("nosuchuser"))
		ids := func(n ...uint32) string {
			var b []byte
			for _, id := range n {
				b = putU32(b, id)
			}
			return string(b)
		}
		names := c.ask("names", "users-groups-by-id@openssh.com", str(ids(0, 1, nobody, 12345678, 65535, 0xFFFFFFFF, 65, 1), ids(0, 5, 65534, 12345678)))
		c.note("%q", names)
		names = c.ask("no names", "users-groups-by-id@openssh.com", str("", ""))
		c.note("%q", names)
		c.ask("unknown", "vendor@example.org", str("x"))
		c.ask("unknown", "", nil)
		c.ask("statvfs", "statvfs@openssh.com", str("missing"))
		c.send("statvfs@openssh.com", str("/proc"))
		fs := c.receive()
		c.note("%x", fs[:5+16])
		c.note("%x", fs[len(fs)-24:])
		c.send("fstatvfs@openssh.com", str(from))
		fs = c.receive()
		c.note("%x", fs[:5+16])
		c.note("%x", fs[len(fs)-24:])
	})
}

// The longest message there may be is served; one more byte is in TestBrokenMessages.
func TestLongestMessage(t *testing.T) {
	compare(t, func(c *client) {
		c.hello()
		h := c.open("f", openWrite|openCreate, attrs{})
		const header = 1 + 4 + 4 + 4 + 8 + 4 // type, id, handle, offset, length of the data
		c.put(h, 0, strings.Repeat("x", maxMessage-header))
		c.stat("f")
	})
}

// Names of as many users as there is room for are an answer, one more is not: no
// client takes it. OpenSSH's server sends it.
func TestNamesThatFillAnAnswer(t *testing.T) {
	c := startOwn(t)
	const each = 4 + len("root")
	most := (maxMessage - (4 + 1 + 4 + 4)) / each // what is before the names
	ask := func(n int) []byte {
		return c.ask("names", "users-groups-by-id@openssh.com", str(string(make([]byte, 4*n)), ""))
	}
	p := ask(most)
	require.Equal(t, uint8(typeExtendedReply), p[0])
	assert.LessOrEqual(t, len(p), maxMessage)
	assert.Len(t, p, 1+4+4+each*most+4)
	assert.Equal(t, statusFailure, statusIn(ask(most+1)))
	c.end()
}

// Options restrict, and the same requests are refused with the same words.
func TestServersOptions(t *testing.T) {
	everything := func(c *client) {
		c.hello()
		c.ask("realpath", typeRealpath, str("."))
		h := c.open("f", openWrite|openCreate, attrs{flags: attrPermissions, perm: 0o666})
		c.put(h, 0, "x")
		c.close(h)
		c.stat("f")
		h = c.open("/etc/passwd", openRead, attrs{})
		c.ask("fstat", typeFstat, str(h))
		c.close(h)
		c.open("/etc/passwd", openRead|openTrunc, attrs{})
		c.ask("mkdir", typeMkdir, withAttrs(str("d"), attrs{}))
		c.stat("d")
		c.ask("rename", typeRename, str("f", "g"))
		c.ask("setstat", typeSetstat, withAttrs(str("g"), attrs{flags: attrPermissions, perm: 0o600}))
		c.ask("lsetstat", "lsetstat@openssh.com", withAttrs(str("g"), attrs{flags: attrTimes}))
		c.ask("posix-rename", "posix-rename@openssh.com", str("g", "h"))
		c.ask("hardlink", "hardlink@openssh.com", str("h", "i"))
		c.ask("symlink", typeSymlink, str("h", "s"))
		c.ask(noFile, "copy-data", putU64(append(putU64(putU64(str("none"), 0), 0), str("none")...), 0))
		c.ask("remove", typeRemove, str("h"))
		c.ask("rmdir", typeRmdir, str("d"))
		c.list(".")
	}
	for _, args := range [][]string{
		nil, {"-R"}, {"-P", "remove,rename"}, {"-P", "copy-data,limits,lsetstat"}, {"-p", "realpath,open,close,read,opendir,readdir,stat,lstat,fstat,copy-data"},
		{"-p", "nothing"}, {"-p", "open", "-P", "open"}, {"-u", "077"}, {"-u", "0"}, {"-d", ".."}, {"-d", "/nonexistent"}, {"-d", "/%u/%%/%U/%d"}, {"-d", "~nobody"},
		{"-d", "%x"}, {"-d", "~nosuchuser"}, {"-u", "9"}, {"-u", "7777"}, {"-l", "QUIET"}, {"-l", "nonsense"}, {"-f", "nonsense"}, {"-f", "LOCAL0", "-l", "DEBUG3"}, {"-c", "-R"}, {"ignored", "-R"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			fatal := slices.ContainsFunc([]string{"%x", "~nosuchuser", "9", "7777", "nonsense"}, func(s string) bool { return slices.Contains(args, s) })
			compare(t, func(c *client) {
				if fatal {
					c.in.Close()
					return
				}
				everything(c)
			}, args...)
		})
	}
	for _, args := range [][]string{{"-h"}, {"-x"}, {"-Q", "requests"}, {"-Q", "Requests"}, {"-Q", "x"}, {"-d"}} {
		needOracle(t)
		var want, got []byte
		for program, out := range map[string]*[]byte{oracle: &want, ownServer: &got} {
			var err error
			*out, err = exec.Command(program, args...).CombinedOutput()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				*out = append(*out, exit.String()...)
			}
			// getopt(3) has a line of its own, with the path it was called by.
			*out = regexp.MustCompile(`(?m)^\S*: (invalid option|option requires an argument) .*\n`).ReplaceAll(*out, nil)
		}
		assert.Equal(t, string(want), string(got), "%q", args)
	}
}

// startOwn starts our own server alone.
func startOwn(t *testing.T, args ...string) *client {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sftp-own-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(dir, nobody, nobody))
	}
	c := startServer(t, ownServer, dir, args...)
	c.hello()
	return c
}

// statusIn returns the status in an answer.
func statusIn(p []byte) status {
	if len(p) < 9 || p[0] != typeStatus {
		return 99
	}
	return status(getU32(p[5:]))
}

// OpenSSH's server says Success when the last piece of a copy fails, and before
// 9.6 copied a file into itself under another name without end.
func TestCopyThatFails(t *testing.T) {
	c := startOwn(t)
	c.file("from", "0123456789")
	c.ask("hardlink", "hardlink@openssh.com", str("from", "same"))
	from := c.open("from", openRead, attrs{})
	readOnly := c.open("from", openRead, attrs{})
	same := c.open("same", openRead|openWrite, attrs{})
	ask := func(to string) status {
		return statusIn(c.ask("copy", "copy-data", putU64(append(putU64(putU64(str(from), 0), 10), str(to)...), 0)))
	}
	assert.Equal(t, statusFailure, ask(readOnly))
	assert.Equal(t, statusFailure, ask(same))
	other := c.open("/etc/passwd", openRead, attrs{})
	assert.Equal(t, statusNoSuchFile, ask(other), "as a write to a file that is open for reading")
	c.end()
}

// What breaks the protocol ends the session, with the answers to what came
// before it sent, and with the status OpenSSH's server has.
func TestBrokenMessages(t *testing.T) {
	needOracle(t)
	good := frame(append(putU32([]byte{typeRealpath}, 1), str(".")...))
	for claim, c := range map[string]struct {
		packet []byte
		early  bool // instead of INIT
	}{
		"a message over the limit":         {packet: putU32(nil, maxMessage+1), early: false},
		"the longest length there is":      {packet: []byte{0xff, 0xff, 0xff, 0xff, typeRead}},
		"an empty message":                 {packet: append(putU32(nil, 0), good...)},
		"a request without an id":          {packet: frame([]byte{typeRealpath, 0, 0})},
		"a string longer than the message": {packet: append(frame(append(putU32([]byte{typeRealpath}, 1), 0, 0, 0, 9)), good...)},
		"a string without its end":         {packet: frame(append(putU32([]byte{typeRealpath}, 1), 0xff, 0xff, 0xff, 0xff))},
		"a name with a NUL in it":          {packet: frame(append(putU32([]byte{typeRealpath}, 1), str("a\x00b")...))},
		"ids of three bytes":               {packet: frame(append(putString(putU32([]byte{typeExtended}, 1), "users-groups-by-id@openssh.com"), str("abc", "")...))},
		"a request before INIT":            {packet: good, early: true},
		"an extension before INIT":         {packet: frame(putString(putU32([]byte{typeExtended}, 1), "limits@openssh.com")), early: true},
		"an INIT without a version":        {packet: frame([]byte{typeInit}), early: true},
	} {
		t.Run(claim, func(t *testing.T) {
			said := map[string]string{}
			for _, program := range []string{oracle, ownServer} {
				s := startServer(t, program, "/tmp")
				if !c.early {
					s.hello()
					s.ask("realpath", typeRealpath, str("."))
				}
				packet := c.packet
				if len(packet) == 4 {
					packet = append(packet, 0)
				}
				_, _ = s.in.Write(packet)
				s.end()
				said[program] = s.said.String()
			}
			assert.Equal(t, said[oracle], said[ownServer])
		})
	}
	t.Run("half a message", func(t *testing.T) {
		c := startOwn(t)
		c.raw(good[:len(good)-1])
		c.end()
		assert.Contains(t, c.said.String(), "end: 0 bytes more, status 0")
	})
	t.Run("an unknown type is not answered", func(t *testing.T) {
		// Nor by OpenSSH's server, which then does not look at the requests behind
		// it before more arrive.
		c := startOwn(t)
		c.send(99, str("x"))
		c.send(typeStatus, str("x"))
		p := c.ask("realpath", typeRealpath, str("."))
		assert.Equal(t, c.id, getU32(p[1:]))
		c.end()
	})
	t.Run("an old client gets no texts", func(t *testing.T) {
		compare(t, func(c *client) {
			c.raw(frame(putU32([]byte{typeInit}, 2)))
			c.note("version %q", c.receive())
			c.ask("stat", typeStat, str("missing"))
			c.hello()
			c.ask("stat", typeStat, str("missing"))
		})
	})
}

// A client may send as much as fits the pipes before it reads an answer, and gets
// every answer, in order.
func TestManyOutstandingRequests(t *testing.T) {
	c := startOwn(t)
	const size, chunk = 64 << 20, 32 << 10
	data := bytes.Repeat([]byte("0123456789abcdef"), chunk/16)
	h := c.open("big", openRead|openWrite|openCreate, attrs{})
	done := make(chan error, 1)
	first := c.id
	go func() {
		var err error
		for off := 0; off < size && err == nil; off += chunk {
			p := putU32([]byte{typeWrite}, first+1+uint32(off/chunk))
			p = append(putU64(append(p, str(h)...), uint64(off)), str(string(data))...)
			_, err = c.in.Write(frame(p))
		}
		done <- err
	}()
	for i := range uint32(size / chunk) {
		p := c.receive()
		require.Equal(t, statusOK, statusIn(p))
		require.Equal(t, first+1+i, getU32(p[1:]))
	}
	require.NoError(t, <-done)
	go func() {
		var err error
		for off := 0; off < size && err == nil; off += chunk {
			p := putU32([]byte{typeRead}, uint32(off/chunk))
			_, err = c.in.Write(frame(putU32(putU64(append(p, str(h)...), uint64(off)), chunk)))
		}
		done <- err
	}()
	for i := range uint32(size / chunk) {
		p := c.receive()
		require.Equal(t, uint8(typeData), p[0])
		require.Equal(t, i, getU32(p[1:]))
		require.True(t, bytes.Equal(data, p[9:]), "block %d", i)
	}
	require.NoError(t, <-done)
	// What it holds is bounded by its buffers, not by what went through it.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	require.NoError(t, err)
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, peak)
	kib, err := strconv.Atoi(string(peak[1]))
	require.NoError(t, err)
	assert.Less(t, kib, 16<<10)
	c.end()
}

func TestLog(t *testing.T) {
	c := startOwn(t, "-e", "-l", "VERBOSE")
	c.file("a\nb\\", "xyz")
	c.stat("missing")
	c.open("a\nb\\", openRead, attrs{})
	c.end()
	lines := strings.Split(c.err.String(), "\r\n")
	for _, want := range []string{
		"session opened for local user nobody from [192.0.2.1]", "received client version 3",
		`open "a\012b\\" flags WRITE,CREATE,TRUNCATE mode 0666`, `close "a\012b\\" bytes read 0 written 3`,
		`stat name "missing"`, "sent status No such file",
		`forced close "a\012b\\" bytes read 0 written 0`, "session closed for local user nobody from [192.0.2.1]",
	} {
		if os.Geteuid() != 0 {
			want = strings.ReplaceAll(want, "nobody", os.Getenv("USER"))
		}
		assert.Contains(t, lines, want)
	}
}
