package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/hostfiles"
	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

// withResolver makes the launcher show a file that holds text.
func withResolver(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "resolv.conf")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	l := launcher(t)
	l.ShowResolver(int(f.Fd()), path)
	t.Cleanup(func() {
		l.ShowResolver(-1, "")
		f.Close()
	})
	return path
}

// notes returns the log lines of a jail that has just started.
func (j *testJail) notes() []string {
	j.t.Helper()
	j.out("true") // PID 1 has said what it has to say by then
	var list []string
	var m sys.MsgBuf
	buf := make([]byte, 2048)
	for {
		n, err := sys.RecvMsg(j.Conn, buf, false, &m)
		if err != nil || n == 0 {
			return list
		}
		typ, _, body, err := wire.Header(buf[:n])
		require.NoError(j.t, err)
		require.Equal(j.t, wire.TypeLog, typ)
		text, err := wire.DecodeText(body)
		require.NoError(j.t, err)
		list = append(list, text)
	}
}

func TestResolverIsShown(t *testing.T) {
	needRoot(t)
	bothModes(t, func(t *testing.T, userns bool) {
		root := newRootfs(t)
		own := filepath.Join(root, "etc/resolv.conf")
		require.NoError(t, os.WriteFile(own, []byte("nameserver 192.0.2.99\n"), 0o644))
		path := withResolver(t, "nameserver 192.0.2.1\n")
		spec := asRoot(newSpec(root, userns))
		spec.ContainerRoot = !userns
		j := mustStart(t, spec)
		assert.Empty(t, j.notes())
		assert.Equal(t, "nameserver 192.0.2.1\n", j.out("cat /etc/resolv.conf"))
		require.NoError(t, os.WriteFile(path, []byte("nameserver 192.0.2.2\nsearch b.example\n"), 0o644))
		assert.Equal(t, "nameserver 192.0.2.2\nsearch b.example\n", j.out("cat /etc/resolv.conf"))
		assert.Contains(t, j.out("grep ' /etc/resolv.conf ' /proc/self/mountinfo"), "ro,nosuid,nodev,noexec")
		for _, attempt := range []string{
			"echo x >/etc/resolv.conf", "rm /etc/resolv.conf", "mv /etc/resolv.conf /tmp", "chmod 666 /etc/resolv.conf",
			"mount -o remount,rw /etc/resolv.conf", "umount /etc/resolv.conf",
		} {
			assert.NotEqual(t, wire.Exited{}, j.run(attempt+" 2>/dev/null").exited, attempt)
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "nameserver 192.0.2.2\nsearch b.example\n", string(text))
		text, err = os.ReadFile(own)
		require.NoError(t, err)
		assert.Equal(t, "nameserver 192.0.2.99\n", string(text), "the rootfs is not written to")
	})
}

// Whatever is in its place, the jail starts, nothing is written into the rootfs and
// nothing outside it is touched.
func TestResolverWithoutAPlace(t *testing.T) {
	needRoot(t)
	withResolver(t, "nameserver 192.0.2.1\n")
	for name, c := range map[string]struct {
		make  func(etc string) error
		spec  func(*jail.Spec)
		shown string // what a session sees; "-" is nothing
		note  string
	}{
		"missing": {nil, nil, "-", "is missing, or a link to nothing"},
		"a link to nothing": {func(etc string) error {
			return os.Symlink("../run/systemd/resolve/stub-resolv.conf", etc+"/resolv.conf")
		}, nil, "-", "is missing, or a link to nothing"},
		"a link to a file":       {func(etc string) error { return os.Symlink("/etc/group", etc+"/resolv.conf") }, nil, "nameserver 192.0.2.1\n", ""},
		"a link out":             {func(etc string) error { return os.Symlink("../../../../../../../etc/hostname", etc+"/resolv.conf") }, nil, "-", "is missing"},
		"a link into /proc":      {func(etc string) error { return os.Symlink("/proc/1/comm", etc+"/resolv.conf") }, nil, "jail-init\n", "leads out of the root file system"},
		"a link into /dev":       {func(etc string) error { return os.Symlink("/dev/null", etc+"/resolv.conf") }, nil, "", "leads out of the root file system"},
		"a circle":               {func(etc string) error { return os.Symlink("resolv.conf", etc+"/resolv.conf") }, nil, "-", "cannot be used"},
		"a directory":            {func(etc string) error { return os.Mkdir(etc+"/resolv.conf", 0o755) }, nil, "-", "is not a regular file"},
		"a FIFO":                 {func(etc string) error { return syscall.Mkfifo(etc+"/resolv.conf", 0o600) }, nil, "-", "is not a regular file"},
		"the rootfs's is wanted": {func(etc string) error { return os.WriteFile(etc+"/resolv.conf", []byte("own\n"), 0o644) }, func(s *jail.Spec) { s.OwnResolver = true }, "own\n", ""},
		"a mount is there": {nil, func(s *jail.Spec) {
			s.Mounts = []jail.Mount{{Source: s.Rootfs + "/../mounted", Target: "/etc/resolv.conf"}}
		}, "mounted\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRootfs(t)
			require.NoError(t, os.WriteFile(filepath.Join(root, "../mounted"), []byte("mounted\n"), 0o644))
			if c.make != nil {
				require.NoError(t, c.make(filepath.Join(root, "etc")))
			}
			spec := newSpec(root, true)
			if c.spec != nil {
				c.spec(&spec)
				for i := range spec.Mounts {
					spec.Mounts[i].Source = filepath.Clean(spec.Mounts[i].Source)
				}
			}
			passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
			require.NoError(t, err)
			j := mustStart(t, spec)
			notes := strings.Join(j.notes(), "\n")
			if c.note == "" {
				assert.Empty(t, notes)
			} else {
				assert.Contains(t, notes, c.note)
				assert.Contains(t, notes, "jail exec test sh -c 'rm -f /etc/resolv.conf; : >/etc/resolv.conf'")
			}
			assert.Equal(t, c.shown, j.out("[ -f /etc/resolv.conf -o -c /etc/resolv.conf ] && cat /etc/resolv.conf || echo -n -"))
			after, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
			require.NoError(t, err)
			assert.Equal(t, string(passwd), string(after))
		})
	}
}

// A time zone of the registry's reaches the sessions, and PID 1 never opens one.
func TestTimezone(t *testing.T) {
	needRoot(t)
	z := hostfiles.ReadZone("America/Sao_Paulo")
	if z.Rule == "" {
		t.Fatal("package tzdata must be installed")
	}
	t.Run("by its rule, without a database", func(t *testing.T) {
		spec := newSpec(newRootfs(t), true)
		spec.Timezone = z.Name
		assert.Equal(t, z.Rule+"\n-03\n", mustStart(t, spec).out("echo $TZ; date +%Z | tr -d '<>'"))
	})
	t.Run("by its name, where it is known", func(t *testing.T) {
		spec := newSpec(newRootfs(t), true)
		spec.Timezone = z.Name
		database := filepath.Join(spec.Rootfs, "usr/share/zoneinfo/America")
		require.NoError(t, os.MkdirAll(database, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(database, "Sao_Paulo"), []byte("TZif"), 0o644))
		j := mustStart(t, spec)
		assert.Equal(t, "America/Sao_Paulo\n", j.out("echo $TZ"))
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", j.PID))
		require.NoError(t, err)
		assert.Equal(t, "GOMAXPROCS=1\x00GOGC=25\x00TZ=\x00GODEBUG=asyncpreemptoff=1\x00", string(env))
	})
	t.Run("the rootfs's own", func(t *testing.T) {
		spec := newSpec(newRootfs(t), true)
		spec.Timezone = jail.OwnTimezone
		assert.Equal(t, "\n", mustStart(t, spec).out("echo $TZ"))
	})
	t.Run("known to nobody", func(t *testing.T) {
		spec := newSpec(newRootfs(t), true)
		spec.Timezone = "Mars/Olympus"
		j := mustStart(t, spec)
		assert.Contains(t, strings.Join(j.notes(), "\n"), "neither the host nor the rootfs knows the time zone Mars/Olympus")
		assert.Equal(t, "\n", j.out("echo $TZ"))
	})
}
