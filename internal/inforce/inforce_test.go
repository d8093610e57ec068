package inforce

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/needs"
)

// filled returns a value of that type in which nothing is zero.
func filled(t reflect.Type, n *int) reflect.Value {
	*n++
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Slice:
		for range 3 {
			v = reflect.Append(v, filled(t.Elem(), n))
		}
	case reflect.Struct:
		for i := range t.NumField() {
			v.Field(i).Set(filled(t.Field(i).Type, n))
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(-*n))
	default:
		v.SetUint(uint64(*n % 200))
	}
	return v
}

// Whatever fields a type gains, they are in the record; and no byte of a record can
// be missing or be one too many.
func TestRecordHoldsEveryField(t *testing.T) {
	for _, zero := range []any{jailRecord{}, loginRecord{}, summary{}, config.Fault{}} {
		n := 0
		want := filled(reflect.TypeOf(zero), &n)
		b := appendRecord(nil, want.Interface())
		got := reflect.New(want.Type())
		require.NoError(t, decodeRecord(b, got.Interface()))
		assert.Equal(t, want.Interface(), got.Elem().Interface())
		for i := range b {
			assert.Error(t, decodeRecord(b[:i], reflect.New(want.Type()).Interface()), "%T cut at %d", zero, i)
		}
		assert.Error(t, decodeRecord(append(b, 0), reflect.New(want.Type()).Interface()))
	}
	var flag struct{ A bool }
	assert.Error(t, decodeRecord([]byte{2}, &flag), "a flag is 0 or 1")
	var small struct{ A uint8 }
	assert.Error(t, decodeRecord([]byte{0x80, 0x02}, &small), "256 in a byte")
	var list struct{ A []string }
	assert.Error(t, decodeRecord([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0x0F}, &list), "more elements than bytes")
}

// TestRecordsAreExact: a record has one form, and nothing else is one.
func TestRecordsAreExact(t *testing.T) {
	type record struct {
		Flag  bool
		Small uint8
		Text  string
		List  []uint8
		Time  int64
	}
	good := appendRecord(nil, record{true, 200, "ab", []uint8{7}, -1})
	var r record
	require.NoError(t, decodeRecord(good, &r))
	assert.Equal(t, record{true, 200, "ab", []uint8{7}, -1}, r)
	for claim, bad := range map[string][]byte{
		"with a byte behind it":                    append(slices.Clone(good), 0),
		"with a number that does not fit":          {1, 0x80, 0x02, 0, 0, 0},
		"with a number that does not end":          {1, 0x80},
		"with a third truth":                       {2, 0, 0, 0, 0},
		"with a text longer than all":              {1, 0, 200, 1, 'a', 0, 0},
		"with a list longer than all":              {1, 0, 0, 200, 1, 0},
		"with a length of more than 64 bits":       {1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"with a time of more than 64 bits":         {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"with a length that is negative elsewhere": {1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		assert.ErrorIs(t, decodeRecord(bad, &r), errRecord, claim)
	}
	for n := range good {
		assert.ErrorIs(t, decodeRecord(good[:n], &r), errRecord, "the first %d bytes", n)
	}
}

func TestShapeTellsTypesApart(t *testing.T) {
	type a struct{ X uint32 }
	type b struct{ X uint64 }
	type c struct{ Y uint32 }
	assert.Equal(t, shapeOf(a{}), shapeOf(a{}))
	assert.NotEqual(t, shapeOf(a{}), shapeOf(b{}))
	assert.NotEqual(t, shapeOf(a{}), shapeOf(c{}))
}

// TestShapeMakesNothing: jail-keys works it out for each key lookup.
func TestShapeMakesNothing(t *testing.T) {
	assert.Zero(t, testing.AllocsPerRun(10, func() { shapeOf(jailRecord{}, config.Fault{}) }))
}

func registry() *config.Registry {
	why := func(s string) config.Errors {
		return config.Errors{{File: "/etc/jail/jail.toml", Line: 7, Key: "k", Msg: s}}
	}
	return &config.Registry{
		Jails: []jail.Spec{
			{Name: "db", Source: jail.Source{Path: "/srv/db"}, IdleTimeout: time.Minute, Logins: []jail.Login{{Name: "carol", HostUID: 1003, UID: 7}}},
			{Name: "web", Source: jail.Source{Path: "/srv/web"}, Env: []string{"A=b"}, Mounts: []jail.Mount{{Source: "/a", Target: "/b", ReadOnly: true}},
				Userns: jail.Userns{Enabled: true, Base: 0x70000000, Size: 65536},
				Logins: []jail.Login{{Name: "alice", HostUID: 1001, UID: 1001}, {Name: "bob", HostUID: 1002, UID: 5, GID: 6, HasGID: true, Shell: "/bin/zsh"}}},
		},
		Files:    map[string]string{"web": "/etc/jail/jail.toml", "db": "/etc/jail/jail.d/db.toml"},
		Blocks:   map[string]config.Block{"web": {Line: 3}, "db": {Line: 9, Match: "group = \"dbs\"", Template: "db"}},
		Accounts: []config.Account{{Name: "carol", UID: 1003, GID: 100, Groups: []uint32{7, 8}}},
		Faults: []config.Fault{
			{File: "/etc/jail/jail.d/x.toml", Errors: why("not TOML")},
			{Jail: "mail", File: "/etc/jail/jail.toml", Userns: jail.Userns{Enabled: true, Base: 0x70010000, Size: 65536},
				Logins: []config.FaultyLogin{{Name: "dan", HostUID: 1004}, {Name: "ghost"}}, Errors: why("no rootfs")},
			{Jail: "web", Logins: []config.FaultyLogin{{Name: "eve", HostUID: 1005}}, Errors: why("in two jails")},
			{Jail: "zoo", Logins: []config.FaultyLogin{{Name: "eve", HostUID: 1005}}, Errors: why("also here")},
		},
	}
}

const regPath = "/etc/jail/jail.toml"

func published(t *testing.T, reg *config.Registry) (dir string, f *File) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, Publish(dir, regPath, reg))
	f, err := Open(dir, regPath)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return dir, f
}

func TestLookups(t *testing.T) {
	want := registry()
	_, f := published(t, want)
	for i := range want.Jails {
		j := &want.Jails[i]
		spec, reasons, err := f.Jail(j.Name)
		require.NoError(t, err)
		assert.Equal(t, j, spec)
		assert.Equal(t, j.Name == "web", len(reasons) > 0, "eve is a login of web")
		for k := range j.Logins {
			alone := *j
			alone.Logins = j.Logins[k : k+1]
			spec, login, reasons, err := f.Login(j.Logins[k].Name)
			require.NoError(t, err)
			require.Empty(t, reasons)
			assert.Equal(t, &alone, spec)
			assert.Equal(t, &j.Logins[k], login)
			_, login, _, err = f.HostUID(j.Logins[k].HostUID)
			require.NoError(t, err)
			assert.Equal(t, &j.Logins[k], login)
		}
	}
	for _, none := range []string{"nobody", "alic", "alicea", "", "../x", "web", strings.Repeat("a", 40)} {
		spec, login, reasons, err := f.Login(none)
		assert.True(t, spec == nil && login == nil && reasons == nil && err == nil, "%q", none)
	}
	spec, login, reasons, err := f.HostUID(0)
	assert.True(t, spec == nil && login == nil && reasons == nil && err == nil)

	for name, says := range map[string]int{"dan": 1, "ghost": 1, "eve": 2} {
		spec, login, reasons, err := f.Login(name)
		assert.True(t, spec == nil && login == nil && err == nil, name)
		assert.Len(t, reasons, says, name)
	}
	_, _, reasons, err = f.HostUID(1005)
	require.NoError(t, err)
	assert.Len(t, reasons, 2)
	mail, reasons, err := f.Jail("mail")
	assert.True(t, mail == nil && err == nil)
	assert.Len(t, reasons, 1)

	all, err := f.Registry()
	require.NoError(t, err)
	assert.Equal(t, want, all)

	// Each once, those out of service too.
	var jails, logins []string
	for i := range want.Jails {
		jails = append(jails, want.Jails[i].Name)
		for _, l := range want.Jails[i].Logins {
			logins = append(logins, l.Name)
		}
	}
	jails, logins = append(jails, "mail"), append(logins, "dan", "ghost", "eve")
	for _, logs := range []bool{false, true} {
		names, err := f.Names(logs, "")
		require.NoError(t, err)
		assert.True(t, slices.IsSorted(names))
		assert.Subset(t, names, map[bool][]string{false: jails, true: logins}[logs])
		assert.Equal(t, len(slices.Compact(slices.Clone(names))), len(names))
	}
	names, err := f.Names(true, "al")
	require.NoError(t, err)
	assert.Equal(t, []string{"alice"}, names)
}

// One that is published takes the place of the other at once, and an open one stays
// what it was.
func TestPublishReplaces(t *testing.T) {
	dir, f := published(t, registry())
	// Of one that was killed while it wrote, and of one that is at it.
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	at := dir + "/.registry." + strconv.Itoa(os.Getppid())
	for _, p := range []string{dir + "/.registry." + strconv.Itoa(gone.Process.Pid), at} {
		require.NoError(t, os.WriteFile(p, []byte("half"), 0o600))
	}
	require.NoError(t, Publish(dir, regPath, &config.Registry{}))
	require.NoError(t, os.Remove(at))
	_, login, _, err := f.Login("alice")
	require.NoError(t, err)
	assert.NotNil(t, login)
	g, err := Open(dir, regPath)
	require.NoError(t, err)
	defer g.Close()
	_, login, _, err = g.Login("alice")
	require.NoError(t, err)
	assert.Nil(t, login)
	names, err := filepath.Glob(dir + "/.*")
	require.NoError(t, err)
	assert.Empty(t, names)
	fi, err := os.Stat(dir + "/registry")
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, fi.Mode())
}

func TestSingleJailGoesBeforeTheWhole(t *testing.T) {
	dir, _ := published(t, registry())
	other := registry().Jails[1]
	other.Source.Path = "/srv/older"
	rootfs := func(login string) string {
		f, err := OpenLogin(dir, regPath, login)
		require.NoError(t, err)
		defer f.Close()
		spec, _, _, err := f.Login(login)
		require.NoError(t, err)
		return spec.Source.Path
	}
	remove, err := PublishJail(dir, regPath, &other)
	require.NoError(t, err)
	assert.Equal(t, "/srv/older", rootfs("alice"))
	assert.Equal(t, "/srv/older", rootfs("bob"))
	assert.Equal(t, "/srv/db", rootfs("carol"))
	remove()
	assert.Equal(t, "/srv/web", rootfs("alice"))
	assert.NoDirExists(t, dir+"/registry.d")
	_, err = PublishJail(dir, regPath, &other)
	require.NoError(t, err)
	require.NoError(t, Publish(dir, regPath, registry()))
	assert.Equal(t, "/srv/web", rootfs("alice"))
	for _, odd := range []string{"", "..", "../registry", "."} {
		f, err := OpenLogin(dir, regPath, odd)
		require.NoError(t, err)
		_, login, _, _ := f.Login(odd)
		assert.Nil(t, login)
		f.Close()
	}
}

// Who could have written the file, or put it there, could say who lands where.
func TestFileOfDoubtfulOriginIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(dir string) error
		want string // "" is ErrNone
	}{
		"no directory":             {func(dir string) error { return os.RemoveAll(dir) }, ""},
		"no file":                  {func(dir string) error { return os.Remove(dir + "/registry") }, ""},
		"group may write":          {func(dir string) error { return os.Chmod(dir+"/registry", 0o620) }, "writable by others"},
		"others may write the dir": {func(dir string) error { return os.Chmod(dir, 0o757) }, "writable by others"},
		"another's":                {func(dir string) error { return os.Chown(dir+"/registry", 1234, 0) }, "belongs to uid 1234"},
		"another's dir":            {func(dir string) error { return os.Chown(dir, 1234, 0) }, "belongs to uid 1234"},
		"two names":                {func(dir string) error { return os.Link(dir+"/registry", dir+"/x") }, "one name"},
		"a symlink": {func(dir string) error {
			return os.Rename(dir+"/registry", dir+"/x")
		}, ""},
		"a link to it": {func(dir string) error {
			if err := os.Rename(dir+"/registry", dir+"/x"); err != nil {
				return err
			}
			return os.Symlink("x", dir+"/registry")
		}, "too many levels of symbolic links"},
		"a FIFO": {func(dir string) error {
			if err := os.Remove(dir + "/registry"); err != nil {
				return err
			}
			return unix.Mkfifo(dir+"/registry", 0o600)
		}, "no regular file"},
		"empty":   {func(dir string) error { return os.Truncate(dir+"/registry", 0) }, "malformed file"},
		"cut off": {func(dir string) error { return os.Truncate(dir+"/registry", 200) }, "malformed file"},
		"longer":  {func(dir string) error { return os.Truncate(dir+"/registry", 1<<20) }, "malformed file"},
		"of another build": {func(dir string) error {
			text, err := os.ReadFile(dir + "/registry")
			if err != nil {
				return err
			}
			text[8]++
			return os.WriteFile(dir+"/registry", text, 0o600)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "another's") {
				needs.Root(t, "it gives files away")
			}
			dir, _ := published(t, registry())
			require.NoError(t, tt.do(dir))
			f, err := Open(dir, regPath)
			require.Error(t, err)
			assert.Nil(t, f)
			if tt.want == "" {
				assert.ErrorIs(t, err, ErrNone)
			} else {
				assert.NotErrorIs(t, err, ErrNone)
				assert.Contains(t, err.Error(), tt.want)
			}
		})
	}
	dir, _ := published(t, registry())
	_, err := Open(dir, "/etc/other.toml")
	assert.ErrorIs(t, err, ErrNone, "of another registry")
}

// A lookup reads as much with ten thousand jails as with ten, but for the bisection.
func TestLookupReadsLittle(t *testing.T) {
	reads := func(jails int) (calls, bytesRead int) {
		text := compile(regPath, many(jails))
		r := &counting{r: bytes.NewReader(text)}
		f, err := newFile(r, int64(len(text)), nil)
		require.NoError(t, err)
		_, login, _, err := f.Login(fmt.Sprintf("u%d", jails/3))
		require.NoError(t, err)
		require.NotNil(t, login)
		return r.calls, r.bytes
	}
	calls, size := reads(10_000)
	few, small := reads(10)
	assert.LessOrEqual(t, calls, few+2*10, "two bisections of 10 steps more")
	assert.LessOrEqual(t, size, small+2*10*entrySize+64)
}

func many(n int) *config.Registry {
	reg := &config.Registry{Files: map[string]string{}}
	for i := range n {
		name := fmt.Sprintf("u%d", i)
		reg.Jails = append(reg.Jails, jail.Spec{Name: name, Source: jail.Source{Path: "/srv/jails/" + name}, Hostname: name, IdleTimeout: time.Hour,
			Userns: jail.Userns{Enabled: true, Base: 0x70000000, Size: 65536}, Logins: []jail.Login{{Name: name, HostUID: jail.HostUID(2000 + i), UID: 1000}}})
		reg.Files[name] = regPath
	}
	return reg
}

type counting struct {
	r            *bytes.Reader
	calls, bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	c.bytes += len(p)
	return c.r.ReadAt(p, off)
}

// Whatever bytes a file has, a lookup ends with an error or with what was asked for.
func FuzzFile(f *testing.F) {
	f.Add(compile(regPath, registry()), "alice")
	f.Add(compile(regPath, registry()), "eve")
	f.Add(compile(regPath, &config.Registry{}), "x")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		file, err := newFile(bytes.NewReader(text), int64(len(text)), nil)
		if err != nil {
			return
		}
		if spec, login, reasons, err := file.Login(name); err == nil && login != nil {
			if login.Name != name || len(reasons) > 0 || spec == nil {
				t.Fatalf("asked for %q, got %+v", name, login)
			}
		}
		if spec, _, err := file.Jail(name); err == nil && spec != nil && (spec.Name != name || len(spec.Logins) == 0) {
			t.Fatalf("asked for %q, got %+v", name, spec)
		}
		_, _, _, _ = file.HostUID(1001)
		_, _ = file.Registry()
		_, _ = file.Names(true, "")
	})
}

func BenchmarkLogin(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			require.NoError(b, Publish(dir, regPath, many(n)))
			for b.Loop() {
				f, err := OpenLogin(dir, regPath, "u7")
				if err != nil {
					b.Fatal(err)
				}
				if _, l, _, err := f.Login("u7"); err != nil || l == nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}

// What completion in a shell waits for.
func BenchmarkNames(b *testing.B) {
	dir := b.TempDir()
	require.NoError(b, Publish(dir, regPath, many(10_000)))
	for b.Loop() {
		f, err := Open(dir, regPath)
		if err != nil {
			b.Fatal(err)
		}
		if names, err := f.Names(true, "u7"); err != nil || len(names) == 0 {
			b.Fatal(err)
		}
		f.Close()
	}
}

// A serve that comes reads the registry with what is in force in view.
func TestLoadKnowsWhatIsInForce(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(dir+"/jail.d", 0o755))
	require.NoError(t, os.Mkdir(dir+"/run", 0o711))
	path := dir + "/jail.toml"
	opt := config.Options{RuntimeDir: dir + "/run", SkipFS: true, Passwd: []byte("alice:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n"), Group: []byte("a:x:1001:\n")}
	file := func(name, text string) { require.NoError(t, os.WriteFile(dir+"/"+name, []byte(text), 0o644)) }
	file("jail.toml", "version = 1\n")
	file("jail.d/a.toml", "version = 1\n[jail.web]\nrootfs = \"/nonexistent/web\"\nusers = [\"alice\"]\n")
	reg, err := Load(path, opt)
	require.NoError(t, err)
	require.Empty(t, reg.Errors())
	require.NoError(t, Publish(dir+"/run", path, reg))

	file("jail.d/a.toml", "[")
	file("jail.d/b.toml", "version = 1\n[jail.x]\nrootfs = \"/nonexistent/x\"\nusers = [\"alice\", \"bob\"]\n")
	reg, err = Load(path, opt)
	require.NoError(t, err)
	_, login := reg.Login("alice")
	assert.Nil(t, login, "whose own file cannot be read")
	_, login = reg.Login("bob")
	assert.NotNil(t, login)

	require.NoError(t, os.Chmod(dir+"/run/registry", 0o666))
	reg, err = Load(path, opt)
	require.NoError(t, err)
	require.NotEmpty(t, reg.Warnings)
	assert.Contains(t, reg.Warnings[0].Error(), "what was in force until now is not known")
}
