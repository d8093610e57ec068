package launch_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
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
	buf := make([]byte, wire.MaxEvents)
	for {
		n, err := sys.RecvMsg(j.Conn, buf, false, &m)
		if err != nil || n == 0 {
			return list
		}
		typ, _, body, err := wire.Header(buf[:n])
		require.NoError(j.t, err)
		if typ == wire.TypeEvents {
			continue // of the session that is above
		}
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
			s.Mounts = []jail.Mount{{Source: s.Source.Path + "/../mounted", Target: "/etc/resolv.conf"}}
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

// The jail's own name can be looked up, and the file in which it is can be written to.
func TestHostsAreShown(t *testing.T) {
	needRoot(t)
	bothModes(t, func(t *testing.T, userns bool) {
		root := newRootfs(t)
		own := filepath.Join(root, "etc/hosts")
		require.NoError(t, os.WriteFile(own, []byte("127.0.0.1 localhost"), 0o644))
		old := time.Unix(1_000_000_000, 0)
		require.NoError(t, os.Chtimes(own, old, old))
		spec := asRoot(newSpec(root, userns))
		spec.ContainerRoot, spec.Hostname = !userns, "web.example.org"
		begin := func() *testJail {
			j := mustStart(t, spec)
			assert.Empty(t, j.notes())
			return j
		}
		j := begin()
		shown := j.out("cat /etc/hosts")
		assert.Regexp(t, `(?s)^(#.*\n){3}127\.0\.0\.1 localhost\n127\.0\.1\.1\tweb\.example\.org web\n$`, shown)
		assert.Contains(t, shown, "/dev/jail/hosts")
		assert.Contains(t, j.out("grep ' /etc/hosts ' /proc/self/mountinfo"), "ro,nosuid,nodev,noexec")
		for _, attempt := range []string{
			"echo x >/etc/hosts", "rm /etc/hosts", "mv /etc/hosts /tmp", "chmod 666 /etc/hosts",
			"mount -o remount,rw /etc/hosts", "umount /etc/hosts", "umount /dev/jail/hosts", "rm /dev/jail/hosts", "mv /dev/jail/hosts /dev/x",
		} {
			assert.NotEqual(t, wire.Exited{}, j.run(attempt+" 2>/dev/null").exited, attempt)
		}
		st, err := os.Stat(own)
		require.NoError(t, err)
		assert.True(t, st.ModTime().Equal(old), "the rootfs is not written to")
		// What is edited stays, and counts from the next start on.
		assert.Equal(t, "127.0.0.1 localhost", j.out("cat /dev/jail/hosts"))
		j.out("echo >>/dev/jail/hosts; echo 10.0.0.1 db >>/dev/jail/hosts")
		assert.Equal(t, shown, j.out("cat /etc/hosts"))
		j.stop()
		j = mustStart(t, spec)
		assert.Contains(t, strings.Join(j.notes(), "\n"), "/etc/hosts of the rootfs does not have it; add it (jail exec test sh -c 'echo 127.0.1.1 web.example.org >>/etc/hosts')")
		assert.Equal(t, "127.0.0.1 localhost\n10.0.0.1 db\n", j.out("cat /etc/hosts"))
		j.out("echo 127.0.1.1 web.example.org >>/etc/hosts")
		j.stop()
		assert.Equal(t, "127.0.0.1 localhost\n10.0.0.1 db\n127.0.1.1 web.example.org\n", begin().out("cat /etc/hosts; ! ls /dev/jail/hosts 2>/dev/null"))
	})
}

// Whatever is in its place, the jail starts, and nothing outside the rootfs is touched.
func TestHostsWithoutAPlace(t *testing.T) {
	needRoot(t)
	outside := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(outside, nil, 0o644))
	for name, c := range map[string]struct {
		make  func(path string) error
		spec  func(*jail.Spec)
		shown string // what a session sees; "-" is nothing
		note  string
	}{
		"missing":           {func(string) error { return nil }, nil, "-", "is missing"},
		"a link to a file":  {func(path string) error { return os.Symlink("/etc/plain", path) }, nil, "line\n", ""},
		"a link out":        {func(path string) error { return os.Symlink(outside, path) }, nil, "-", "is missing"},
		"a link into /proc": {func(path string) error { return os.Symlink("/proc/1/comm", path) }, nil, "-", "is not a regular file"},
		"a link into /dev":  {func(path string) error { return os.Symlink("/dev/null", path) }, nil, "-", "is not a regular file"},
		"a circle":          {func(path string) error { return os.Symlink("hosts", path) }, nil, "-", "cannot be used"},
		"a directory":       {func(path string) error { return os.Mkdir(path, 0o755) }, nil, "-", "is not a regular file"},
		"a FIFO":            {func(path string) error { return syscall.Mkfifo(path, 0o644) }, nil, "-", "is not a regular file"},
		"a device":          {func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|5) }, nil, "-", "is not a regular file"},
		"too large": {func(path string) error {
			return os.WriteFile(path, bytes.Repeat([]byte("\n"), environ.MaxHosts+1), 0o644)
		}, nil, "-", ""},
		"the largest":            {func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("\n"), 8000), 0o644) }, nil, "line\n", ""},
		"the rootfs's is wanted": {func(path string) error { return os.WriteFile(path, nil, 0o644) }, func(s *jail.Spec) { s.OwnHosts = true }, "-", ""},
		"a mount is there": {nil, func(s *jail.Spec) {
			s.Hostname = "other"
			s.Mounts = []jail.Mount{{Source: outside, Target: "/etc/hosts"}}
		}, "-", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRootfs(t)
			path := filepath.Join(root, "etc/hosts")
			require.NoError(t, os.WriteFile(filepath.Join(root, "etc/plain"), nil, 0o644))
			if c.make != nil {
				require.NoError(t, os.Remove(path))
				require.NoError(t, c.make(path))
			}
			spec := newSpec(root, true)
			if c.spec != nil {
				c.spec(&spec)
			}
			j := mustStart(t, spec)
			notes := strings.Join(j.notes(), "\n")
			if c.note == "" {
				assert.Empty(t, notes)
			} else {
				assert.Contains(t, notes, "/etc/hosts of the rootfs "+c.note)
			}
			assert.Equal(t, c.shown, j.out("[ -f /etc/hosts ] && grep -q '^127.0.1.1.test$' /etc/hosts && echo line || echo -n -"))
			text, err := os.ReadFile(outside)
			require.NoError(t, err)
			assert.Empty(t, text)
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
		database := filepath.Join(spec.Source.Path, "usr/share/zoneinfo/America")
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

// A program with Debian's file capability of ping can be executed, and gains nothing by it.
func TestFileCapabilityOfPing(t *testing.T) {
	needRoot(t)
	bothModes(t, func(t *testing.T, userns bool) {
		root := newRootfs(t)
		bb, err := os.ReadFile("/bin/busybox")
		require.NoError(t, err)
		for _, name := range []string{"ping"} {
			path := filepath.Join(root, "tmp", name)
			require.NoError(t, os.WriteFile(path, bb, 0o755))
			// struct vfs_cap_data (capabilities(7)): revision 2, effective; CAP_NET_RAW permitted.
			raw := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			require.NoError(t, syscall.Setxattr(path, "security.capability", raw, 0))
		}
		spec := newSpec(root, userns)
		if !userns {
			// With set-uid programs, but the host's uids, it would be a power.
			spec.ContainerRoot = true
			j := mustStart(t, spec)
			assert.Equal(t, wire.Exited{Code: 126}, j.run("/tmp/ping -c1 127.0.0.1 2>/dev/null").exited)
			j.stop()
			spec.ContainerRoot = false
		}
		j := mustStart(t, spec)
		r := j.out("exec 2>&1; /tmp/ping -c1 -W5 127.0.0.1; true")
		var low, high int
		text, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
		require.NoError(t, err)
		_, err = fmt.Sscan(string(text), &low, &high)
		require.NoError(t, err)
		if gid := int(spec.Userns.Base) + jailUID; low <= gid && gid <= high {
			assert.Contains(t, r, "1 packets received")
		} else {
			assert.Contains(t, r, "permission denied (are you root?)", "it ran, and asked for a socket")
		}
	})
}
