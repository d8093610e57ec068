package session

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
	"jail/internal/login"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// tree is a rootfs of a few files in a temporary directory. Names that end in /
// are directories, texts that begin with -> links.
func tree(t testing.TB, files map[string]string) (*Jail, string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		write(t, root, name, text)
	}
	fd, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	return &Jail{Root: fd}, root
}

func write(t testing.TB, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	if strings.HasSuffix(name, "/") {
		require.NoError(t, os.MkdirAll(path, 0o755))
	} else if target, ok := strings.CutPrefix(text, "->"); ok {
		require.NoError(t, os.Symlink(target, path))
	} else {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

func someone() *passwd.Entry {
	return &passwd.Entry{Name: "bob", UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Home: "/home/bob", Shell: "/bin/sh"}
}

// request is one as the wire has it: a NUL behind every entry.
func request(flags uint16, terminal bool, env ...string) *Slot {
	s := NewSlot()
	s.Req.Flags = flags
	if terminal {
		s.Req.Stdio = [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	}
	for _, e := range env {
		s.Req.Env = append(s.Req.Env, cbytes(e))
	}
	return s
}

// environmentOf is what a session gets, sorted, without what every one has.
func environmentOf(j *Jail, terminal bool, env ...string) []string {
	s := request(0, terminal, env...)
	defer s.Free()
	name := ""
	if terminal {
		name = "/dev/pts/7"
	}
	j.environment(s, someone(), name, &Forward{})
	list := []string{}
	usual := []string{"USER=bob", "LOGNAME=bob", "HOME=/home/bob", "SHELL=/bin/sh", defaultPath, superPath, "SSH_TTY=/dev/pts/7"}
	for _, e := range s.env {
		if !slices.Contains(usual, string(e)) {
			list = append(list, string(e))
		}
	}
	sort.Strings(list)
	return list
}

func TestEnvironmentFiles(t *testing.T) {
	const connection = "SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22"
	for claim, c := range map[string]struct {
		files map[string]string
		jail  Jail
		env   []string
		want  []string
	}{
		"nothing":          {nil, Jail{}, nil, []string{}},
		"/etc/environment": {map[string]string{"etc/environment": "A=\"b c\"\n"}, Jail{}, nil, []string{"A=b c"}},
		"Debian's locale wins over the client's, as with PAM": {
			map[string]string{"etc/environment": "LANG=C\nA=b\n", "etc/default/locale": "LANG=C.UTF-8\n"}, Jail{},
			[]string{"LANG=C", "LC_TIME=C"}, []string{"A=b", "LANG=C.UTF-8", "LC_TIME=C"}},
		"locale.conf gives way to the client's": {
			map[string]string{"etc/locale.conf": "LANG=C.UTF-8\nLC_TIME=C\nX=y\n"}, Jail{},
			[]string{"LANG=C"}, []string{"LANG=C"}},
		"locale.conf where the client sends none": {
			map[string]string{"etc/locale.conf": "LANG=C.UTF-8\nLC_TIME=C\nX=y\n"}, Jail{},
			nil, []string{"LANG=C.UTF-8", "LC_TIME=C"}},
		"locale.conf does not count beside /etc/default/locale": {
			map[string]string{"etc/locale.conf": "LC_TIME=C\n", "etc/default/locale": "LANG=C\n"}, Jail{}, nil, []string{"LANG=C"}},
		"sshd's own variables are not the rootfs's to set": {
			map[string]string{"etc/environment": "SSH_CONNECTION=x\nSSH_CONNECTION_X=x\nSSH_CLIENT=x\nSSH_TTY=x\nSSH_ORIGINAL_COMMAND=x\nSSH_AUTH_INFO_0=x\nSSH_X=y\n"},
			Jail{}, []string{connection}, []string{connection, "SSH_X=y"}},
		"the registry wins": {
			map[string]string{"etc/environment": "A=b\nB=c\n"}, Jail{Env: []string{"A=registry", "LANG=registry"}},
			[]string{"LANG=C"}, []string{"A=registry", "B=c", "LANG=registry"}},
		"each name once": {nil, Jail{}, []string{"LANG=C", "LANG=POSIX"}, []string{"LANG=POSIX"}},
		"a listed name enters": {nil, Jail{EnvAccept: []string{"FOO", "BAR_*"}},
			[]string{"FOO=1", "BAR_X=2", "BAZ=3", "LD_PRELOAD=4"}, []string{"BAR_X=2", "FOO=1"}},
		"the zone": {nil, Jail{tz: "Europe/Paris"}, nil, []string{"TZ=Europe/Paris"}},
		"a zone of the client's, where it may enter": {nil, Jail{tz: "Europe/Paris", EnvAccept: []string{"TZ"}},
			[]string{"TZ=Asia/Tokyo"}, []string{"TZ=Asia/Tokyo"}},
		"the rootfs's zone":                    {map[string]string{"etc/environment": "TZ=Asia/Tokyo\n"}, Jail{tz: "Europe/Paris"}, nil, []string{"TZ=Asia/Tokyo"}},
		"the marker of a login does not enter": {nil, Jail{}, []string{"MOTD_SHOWN=pam"}, []string{}},
		"a link inside":                        {map[string]string{"etc/environment": "->../usr/lib/env", "usr/lib/env": "A=b\n"}, Jail{}, nil, []string{"A=b"}},
		"a link out":                           {map[string]string{"etc/environment": "->../../../../../../../../etc/passwd"}, Jail{}, nil, []string{}},
		"a loop":                               {map[string]string{"etc/environment": "->environment"}, Jail{}, nil, []string{}},
		"a directory":                          {map[string]string{"etc/environment/": ""}, Jail{}, nil, []string{}},
		"too large":                            {map[string]string{"etc/environment": strings.Repeat("A=b\n", maxEnvFile)}, Jail{}, nil, []string{}},
	} {
		j, _ := tree(t, c.files)
		c.jail.Root = j.Root
		assert.Equal(t, c.want, environmentOf(&c.jail, false, c.env...), claim)
	}
}

// What has changed is read again, at once: also within a tick of the clock, and
// where a file of the same size takes its place.
func TestEnvironmentIsReadAgain(t *testing.T) {
	j, root := tree(t, nil)
	past := time.Now().Add(-time.Hour)
	for i := range 50 {
		want := []string{"A=" + strings.Repeat("x", i%3)}
		write(t, root, "etc/environment", want[0]+"\n")
		if i%2 == 0 {
			require.NoError(t, os.Chtimes(filepath.Join(root, "etc/environment"), past, past))
		}
		assert.Equal(t, want, environmentOf(j, false))
		assert.Equal(t, want, environmentOf(j, false))
	}
	require.NoError(t, os.Remove(filepath.Join(root, "etc/environment")))
	assert.Empty(t, environmentOf(j, false))
	var k known
	old := identity{ino: 1}
	assert.False(t, k.still(&old))
	k.note(&old)
	assert.True(t, k.still(&identity{ino: 1}))
	assert.False(t, k.still(&identity{ino: 2}))
	fresh := identity{ino: 1, ctime: syscall.Timespec{Sec: time.Now().Unix()}}
	k.note(&fresh)
	assert.False(t, k.still(&fresh), "one that was just written may change without a trace")
}

// TestEnvironmentIsTheSessionsOwn: a child that has not executed yet reads what it
// was given from this memory, whatever the next session finds in the files.
func TestEnvironmentIsTheSessionsOwn(t *testing.T) {
	for _, file := range []string{"/etc/environment", "/etc/locale.conf"} {
		j, root := tree(t, map[string]string{file: "LANG=C\nLC_TIME=first\nLC_NAME=one\n"})
		first, second := request(0, false), request(0, false)
		defer first.Free()
		defer second.Free()
		j.environment(first, someone(), "", &Forward{})
		before := string(bytes.Join(first.env, []byte("\n")))
		require.Contains(t, before, "LC_TIME=first")
		write(t, root, file, "LC_NUMERIC=another\nLC_TIME=other\n")
		j.environment(second, someone(), "", &Forward{})
		require.Contains(t, string(bytes.Join(second.env, []byte("\n"))), "LC_TIME=other")
		assert.Equal(t, before, string(bytes.Join(first.env, []byte("\n"))), file)
	}
}

// What cannot be read at once is not waited for.
func TestEnvironmentDoesNotWait(t *testing.T) {
	j, root := tree(t, map[string]string{"etc/": "", "usr/lib/locale/": "", "run/": ""})
	for _, name := range []string{"etc/environment", "etc/default/locale", "etc/locale.conf", "etc/localtime", "etc/motd", "run/motd.dynamic", "usr/lib/locale/locale-archive"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(t, syscall.Mkfifo(filepath.Join(root, name), 0o666))
	}
	quickly(t, func() {
		assert.Equal(t, []string{"LANG=C"}, environmentOf(j, true, "LANG=de_DE.UTF-8"))
		j.SetZone("Europe/Paris", "CET-1CEST,M3.5.0,M10.5.0/3", 1)
		assert.Empty(t, motdOf(j, true, wire.FlagLogin, nil, "SSH_CONNECTION=x"))
	})
	assert.Equal(t, "CET-1CEST,M3.5.0,M10.5.0/3", j.tz)

	// A lease of another process is broken only after a while (fcntl(2)).
	for _, name := range []string{"etc/environment", "usr/lib/locale/locale-archive"} {
		path := filepath.Join(root, name)
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.WriteFile(path, []byte("A=b\n"), 0o644))
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer syscall.Close(fd)
		_, err = sys.Fcntl(fd, 1024 /* F_SETLEASE */, syscall.F_WRLCK)
		require.NoError(t, err)
	}
	j.tz = ""
	quickly(t, func() { assert.Equal(t, []string{"LANG=C"}, environmentOf(j, false, "LANG=de_DE.UTF-8")) })
}

func quickly(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("still not through after five seconds")
	}
}

func TestLocales(t *testing.T) {
	glibc := func(names ...string) map[string]string {
		files := map[string]string{"usr/lib/locale/": ""}
		for _, n := range names {
			files["usr/lib/locale/"+n+"/LC_CTYPE"] = ""
		}
		return files
	}
	for claim, c := range map[string]struct {
		files     map[string]string
		env, want []string
	}{
		"one that is not there": {glibc("C.utf8"), []string{"LANG=de_DE.UTF-8", "LC_ALL=en_US", "LC_TIME=UTF-8"}, []string{"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "LC_TIME=C.UTF-8"}},
		"without C.UTF-8":       {glibc(), []string{"LANG=de_DE.UTF-8"}, []string{"LANG=C"}},
		"an older C.UTF-8":      {glibc("C.UTF-8"), []string{"LANG=de_DE.UTF-8"}, []string{"LANG=C.UTF-8"}},
		"one that is there":     {glibc("C.utf8", "de_DE.utf8", "sr_RS.utf8@latin"), []string{"LANG=de_DE.UTF-8", "LC_TIME=sr_RS.UTF-8@latin"}, []string{"LANG=de_DE.UTF-8", "LC_TIME=sr_RS.UTF-8@latin"}},
		"those of every system": {glibc(), []string{"LANG=", "LC_ALL=C", "LC_TIME=POSIX", "LC_CTYPE=C.UTF-8"}, []string{"LANG=", "LC_ALL=C", "LC_CTYPE=C.UTF-8", "LC_TIME=POSIX"}},
		"another C library":     {nil, []string{"LANG=de_DE.UTF-8"}, []string{"LANG=de_DE.UTF-8"}},
		"no locale by its name": {glibc(), []string{"LANGUAGE=de:en", "LC_APP=x"}, []string{"LANGUAGE=de:en", "LC_APP=x"}},
		"a path":                {glibc("C.utf8"), []string{"LANG=../../../etc", "LC_ALL=/etc", "LC_TIME=.."}, []string{"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "LC_TIME=C.UTF-8"}},
		"a link out": {map[string]string{"usr/lib/locale/C.utf8": "->/../../../../../../../usr", "usr/lib/locale/x_X": "->../../../../../../../../../../../../etc"},
			[]string{"LANG=x_X"}, []string{"LANG=C.UTF-8"}}, // the one stays inside, the other leads to nothing there
	} {
		j, _ := tree(t, c.files)
		for range 2 { // the second time from memory
			assert.Equal(t, c.want, environmentOf(j, false, c.env...), claim)
		}
	}
}

func TestLocaleArchive(t *testing.T) {
	j, root := tree(t, map[string]string{"usr/lib/locale/C.utf8/LC_CTYPE": ""})
	of := func() string { return environmentOf(j, false, "LANG=de_DE.UTF-8")[0] }
	assert.Equal(t, "LANG=C.UTF-8", of())
	path := filepath.Join(root, "usr/lib/locale/locale-archive")
	b := make([]byte, 56+12)
	put := func(at, v int) { binary.NativeEndian.PutUint32(b[at:], uint32(v)) }
	put(0, 0xde020109)
	put(8, 56)
	put(16, 1)
	put(20, 68)
	put(24, 11)
	put(56+4, 68)
	put(56+8, 1)
	require.NoError(t, os.WriteFile(path, append(b, "de_DE.utf8\x00"...), 0o644))
	assert.Equal(t, "LANG=de_DE.UTF-8", of(), "a new archive is noticed")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("\xff"), 1000), 0o644))
	assert.Equal(t, "LANG=C.UTF-8", of(), "so is one that makes no sense")
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("/etc/passwd", path))
	assert.Equal(t, "LANG=C.UTF-8", of())
	write(t, root, "usr/lib/locale/de_DE.utf8/LC_CTYPE", "")
	assert.Equal(t, "LANG=de_DE.UTF-8", of(), "and a new directory")
}

func TestKnownTerminal(t *testing.T) {
	debian := map[string]string{
		"etc/terminfo/README": "", "lib/terminfo/x/xterm": "", "lib/terminfo/x/xterm-256color": "", "lib/terminfo/d/dumb": "",
		"lib/terminfo/s/screen-256color": "", "lib/terminfo/v/vt100": "",
	}
	with := func(name, text string) map[string]string {
		files := map[string]string{name: text}
		for n, t := range debian {
			files[n] = t
		}
		return files
	}
	for claim, c := range map[string]struct {
		files map[string]string
		term  string
		want  string
		more  []string
	}{
		"a known one":            {debian, "dumb", "dumb", nil},
		"an unknown one":         {debian, "xterm-kitty", "xterm-256color", nil},
		"one of many colours":    {debian, "my-256color", "xterm-256color", nil},
		"one within another":     {debian, "tmux-256color", "screen-256color", nil},
		"nothing to go by":       {debian, "wyse50", "xterm", nil},
		"only the oldest":        {map[string]string{"usr/share/terminfo/v/vt100": ""}, "xterm-kitty", "vt100", nil},
		"names without case":     {map[string]string{"usr/share/terminfo/78/xterm": "", "usr/share/terminfo/6b/kitty": ""}, "kitty", "kitty", nil},
		"no descriptions at all": {nil, "xterm-kitty", "xterm-kitty", nil},
		"an empty directory":     {map[string]string{"usr/share/terminfo/": ""}, "xterm-kitty", "xterm-kitty", nil},
		"the user's own":         {with("home/bob/.terminfo/x/xterm-kitty", ""), "xterm-kitty", "xterm-kitty", nil},
		"descriptions elsewhere": {with("etc/environment", "TERMINFO=/opt/terminfo\n"), "xterm-kitty", "xterm-kitty", []string{"TERMINFO=/opt/terminfo"}},
		"what the rootfs says":   {with("etc/environment", "TERM=odd\n"), "xterm-kitty", "odd", nil},
		"a path":                 {with("lib/secret", ""), "../../lib/secret", "xterm", nil},
		"a path of letters":      {with("lib/terminfo/x/y", ""), "x/y", "xterm", nil},
		"an empty one":           {debian, "", "", nil},
		"bytes of all kinds":     {debian, "\x1b[31m\xff\n", "xterm", nil},
		"a directory":            {with("lib/terminfo/x/xdir/", ""), "xdir", "xterm", nil},
		"a link out":             {with("lib/terminfo/x/xout", "->../../../../../../../../../../bin/sh"), "xout", "xterm", nil},
		"a long one":             {debian, strings.Repeat("x", 100_000), "xterm", nil},
	} {
		j, _ := tree(t, c.files)
		want := append([]string{"TERM=" + c.want}, c.more...)
		sort.Strings(want)
		assert.Equal(t, want, environmentOf(j, true, "TERM="+c.term), claim)
	}
	j, _ := tree(t, debian)
	assert.Empty(t, environmentOf(j, false, "TERM=xterm"), "without a terminal there is none")
	j.Env = []string{"TERM=registry"}
	assert.Equal(t, []string{"TERM=registry"}, environmentOf(j, true, "TERM=xterm-kitty"))
}

// motdOf returns what a session's shell begins with.
func motdOf(j *Jail, terminal bool, flags uint16, args []string, env ...string) string {
	s := request(flags, terminal, env...)
	defer s.Free()
	for _, a := range args {
		s.Req.Args = append(s.Req.Args, cbytes(a))
	}
	j.welcome(s, someone(), "pts/0", new(Started))
	return string(s.Child.Greeting)
}

func TestMotd(t *testing.T) {
	const ssh = "SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22"
	motd := map[string]string{"etc/motd": "hello\nthere\n"}
	for claim, c := range map[string]struct {
		files map[string]string
		flags uint16
		args  []string
		env   []string
		want  string
	}{
		"a login by ssh":              {motd, wire.FlagLogin, nil, []string{ssh}, "hello\nthere\n"},
		"a login on a console":        {motd, wire.FlagLogin, nil, []string{"MOTD_SHOWN=pam"}, "hello\nthere\n"},
		"su -":                        {motd, wire.FlagLogin, nil, nil, ""},
		"a shell that is no login":    {motd, 0, nil, []string{ssh}, ""},
		"a command":                   {motd, wire.FlagLogin, []string{"-c", "true"}, []string{ssh}, ""},
		"the user does not want it":   {map[string]string{"etc/motd": "hello\n", "home/bob/.hushlogin": ""}, wire.FlagLogin, nil, []string{ssh}, ""},
		"both kinds":                  {map[string]string{"etc/motd": "two\n", "run/motd.dynamic": "one"}, wire.FlagLogin, nil, []string{ssh}, "one\ntwo\n"},
		"the first of the fixed ones": {map[string]string{"run/motd": "b\n", "usr/lib/motd": "c\n"}, wire.FlagLogin, nil, []string{ssh}, "b\n"},
		"an empty one":                {map[string]string{"etc/motd": ""}, wire.FlagLogin, nil, []string{ssh}, ""},
		"up to a NUL":                 {map[string]string{"etc/motd": "a\x00b\n"}, wire.FlagLogin, nil, []string{ssh}, "a\n"},
		"a link inside":               {map[string]string{"etc/motd": "->/usr/motd", "usr/motd": "x\n"}, wire.FlagLogin, nil, []string{ssh}, "x\n"},
		"a link out":                  {map[string]string{"etc/motd": "->../../../../../../../../../etc/passwd"}, wire.FlagLogin, nil, []string{ssh}, ""},
		"a loop":                      {map[string]string{"etc/motd": "->motd"}, wire.FlagLogin, nil, []string{ssh}, ""},
	} {
		j, _ := tree(t, c.files)
		assert.Equal(t, c.want, motdOf(j, true, c.flags, c.args, c.env...), claim)
	}
	j, _ := tree(t, motd)
	assert.Empty(t, motdOf(j, false, wire.FlagLogin, nil, ssh), "not without a terminal")
	s := request(wire.FlagLogin, true, ssh)
	defer s.Free()
	s.Req.Stdio[1] = wire.StdioPassed
	assert.Empty(t, j.greeting(s, someone()), "not where only the input is one")

	j, _ = tree(t, map[string]string{"etc/motd": strings.Repeat("x", 1<<20), "run/motd.dynamic": strings.Repeat("y", maxMotd-100)})
	got := motdOf(j, true, wire.FlagLogin, nil, ssh)
	assert.Equal(t, strings.Repeat("y", maxMotd-100)+"\n"+strings.Repeat("x", 98)+"\n", got, "of a long one the beginning")
}

func TestZone(t *testing.T) {
	paris := "TZif2" + strings.Repeat("\x00", 60) + "\nCET-1CEST,M3.5.0,M10.5.0/3\n"
	const rule = "CET-1CEST,M3.5.0,M10.5.0/3"
	sum := environ.Sum([]byte(paris))
	for claim, c := range map[string]struct {
		files      map[string]string
		zone, rule string
		want       string
		notes      int
	}{
		"the same file":                     {map[string]string{"etc/localtime": paris}, "", rule, "", 0},
		"the same zone, an older database":  {map[string]string{"etc/localtime": "->/usr/share/zoneinfo/Europe/Paris", "usr/share/zoneinfo/Europe/Paris": "TZif1"}, "Europe/Paris", rule, "", 0},
		"a link to nothing":                 {map[string]string{"etc/localtime": "->/usr/share/zoneinfo/Europe/Paris"}, "Europe/Paris", rule, rule, 0},
		"another zone, known by its name":   {map[string]string{"etc/localtime": "TZif2x", "usr/share/zoneinfo/Europe/Paris": "TZif"}, "Europe/Paris", rule, "Europe/Paris", 0},
		"no database":                       {nil, "Europe/Paris", rule, rule, 0},
		"a name that is a directory inside": {map[string]string{"usr/share/zoneinfo/Europe/Paris/": ""}, "Europe/Paris", rule, rule, 0},
		"UTC needs nothing":                 {nil, "Etc/UTC", "UTC0", "", 0},
		"UTC where the rootfs is elsewhere": {map[string]string{"etc/localtime": "TZif2x"}, "Etc/UTC", "UTC0", "UTC0", 0},
		"known to nobody":                   {nil, "Mars/Olympus", "", "", 1},
		"not asked for":                     {map[string]string{"etc/localtime": "TZif2x"}, "", "", "", 0},
		"a link out":                        {map[string]string{"etc/localtime": "->../../../../../../../etc/passwd"}, "Europe/Paris", rule, rule, 0},
	} {
		j, _ := tree(t, c.files)
		j.SetZone(c.zone, c.rule, sum)
		assert.Equal(t, c.want, j.tz, claim)
		assert.Len(t, j.Notes, c.notes, claim)
	}
}

func BenchmarkEnvironment(b *testing.B) {
	j, root := tree(b, map[string]string{"etc/environment": "", "usr/lib/locale/C.utf8/x": "", "lib/terminfo/x/xterm-256color": ""})
	env := []string{"LANG=en_US.UTF-8", "TERM=xterm-256color", "SSH_CLIENT=1.2.3.4 5 22", "SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22"}
	run := func(name string, terminal string) {
		s := request(0, terminal != "", env...)
		defer s.Free()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.arena = s.arena[:0]
				j.environment(s, someone(), terminal, &Forward{})
			}
		})
	}
	time.Sleep(2 * time.Second) // until the files are not young any more
	run("a command", "")
	run("a terminal", "/dev/pts/1")
	write(b, root, "etc/default/locale", "LANG=C.UTF-8\n")
	write(b, root, "etc/environment", "PATH=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games\"\n")
	time.Sleep(2 * time.Second)
	run("Debian", "")
	b.Run("passwd, to compare with", func(b *testing.B) {
		write(b, root, "etc/passwd", strings.Repeat("x:x:1:1::/:/bin/sh\n", 30))
		var buf []byte
		for b.Loop() {
			buf, _ = readWhole(j.Root, "/etc/passwd", buf, login.MaxDatabase)
		}
	})
}

// TestAuthInfo: what sshd has noted is in a file of the session's own, which goes with it.
func TestAuthInfo(t *testing.T) {
	j, root := tree(t, map[string]string{"auth/": ""})
	fd, err := syscall.Open(filepath.Join(root, "auth"), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	j.Auth, j.X11.FD = Place{FD: fd, Path: "/dev/jail/auth"}, -1
	lines := [][]byte{cbytes("publickey ssh-ed25519 AAAA"), cbytes("password")}
	begin := func(flags uint16, lines [][]byte) (st Started, path string) {
		s := request(flags, false)
		defer s.Free()
		s.Req.Auth = lines
		j.forward(s, someone(), &st)
		j.environment(s, someone(), "", &st.Forward)
		return st, string(s.get("SSH_USER_AUTH"))
	}
	files := func() int {
		d, err := os.ReadDir(filepath.Join(root, "auth"))
		require.NoError(t, err)
		return len(d)
	}
	one, path := begin(wire.FlagAuthKnown, lines)
	two, other := begin(wire.FlagAuthKnown, lines[1:])
	assert.NotEqual(t, path, other)
	for path, want := range map[string]string{path: "publickey ssh-ed25519 AAAA\npassword\n", other: "password\n"} {
		require.Equal(t, "/dev/jail/auth", filepath.Dir(path))
		file := filepath.Join(root, "auth", filepath.Base(path))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
		st, err := os.Stat(file)
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, st.Mode().Perm())
	}
	j.Remove(&one.Forward)
	j.Remove(&one.Forward)
	assert.Equal(t, 1, files())
	j.Remove(&two.Forward)
	assert.Zero(t, files())
	assert.Zero(t, j.forwards)

	_, path = begin(0, lines)
	assert.Empty(t, path, "only what sshd has noted")
	_, path = begin(wire.FlagAuthKnown, nil)
	assert.Empty(t, path)
	j.forwards = maxForwards
	st, path := begin(wire.FlagAuthKnown, lines)
	assert.Empty(t, path, "no more than there is room for")
	assert.Contains(t, st.Note, "SSH_USER_AUTH")
	assert.Zero(t, files())
	j.forwards = 0
	// Whoever has put something there already keeps it.
	write(t, root, "auth/"+strconv.FormatUint(j.serial+1, 10), "->../victim")
	write(t, root, "victim", "untouched")
	st, path = begin(wire.FlagAuthKnown, lines)
	assert.Empty(t, path)
	assert.Contains(t, st.Note, "no SSH_USER_AUTH")
	text, _ := os.ReadFile(filepath.Join(root, "victim"))
	assert.Equal(t, "untouched", string(text))
}
