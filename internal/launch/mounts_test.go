package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

// TestEveryMount compares what a jail sees mounted with a table: each mount there is, what
// it is of and what may be done on it (mount(8)).
func TestEveryMount(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newSpec(newRootfs(t), userns)
		shared := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(shared, "file"), nil, 0o644))
		spec.Mounts = []jail.Mount{
			{Source: shared, Target: "/mnt/rw"},
			{Source: shared, Target: "/mnt/ro", ReadOnly: true},
			{Source: filepath.Join(shared, "file"), Target: "/mnt/file"},
		}
		spec.X11 = true
		j := mustStart(t, spec)
		found := map[string]string{}
		for line := range strings.Lines(j.out("cat /proc/self/mountinfo")) {
			// The fields up to "-" are about the mount, those behind it about the file system.
			f := strings.Fields(line)
			end := slices.Index(f, "-")
			options := slices.DeleteFunc(strings.Split(f[5], ","), func(o string) bool { return o == "relatime" || o == "noatime" || o == "idmapped" })
			assert.Equal(t, 6, end, "no propagation: %s", line)
			kind := f[end+1]
			if f[4] == "/" || strings.HasPrefix(f[4], "/mnt/") {
				kind = "host"
			} else if kind == "tmpfs" && f[3] != "/" || kind == "devtmpfs" {
				kind = "node"
			}
			found[f[4]] = kind + " " + strings.Join(options, ",")
		}
		root := "host rw,nosuid,nodev"
		if userns {
			root = "host rw,nodev" // set-uid programs are for root of the jail
		}
		want := map[string]string{
			"/":                   root,
			"/proc":               "proc rw,nosuid,nodev,noexec",
			"/proc/sys":           "proc ro,nosuid,nodev,noexec",
			"/proc/sysrq-trigger": "proc ro,nosuid,nodev,noexec",
			"/proc/irq":           "proc ro,nosuid,nodev,noexec",
			"/proc/bus":           "proc ro,nosuid,nodev,noexec",
			"/proc/fs":            "proc ro,nosuid,nodev,noexec",
			"/proc/mtrr":          "proc ro,nosuid,nodev,noexec",
			"/dev":                "tmpfs rw,nosuid,noexec",
			"/dev/jail/x11":       "tmpfs rw,nosuid,nodev",
			"/dev/pts":            "devpts rw,nosuid,noexec",
			"/dev/shm":            "tmpfs rw,nosuid,nodev",
			"/dev/mqueue":         "mqueue rw,nosuid,nodev,noexec",
			"/sys":                "tmpfs ro,nosuid,nodev,noexec",
			"/mnt/rw":             "host rw,nosuid,nodev,nosymfollow",
			"/mnt/ro":             "host ro,nosuid,nodev,nosymfollow",
			"/mnt/file":           "host rw,nosuid,nodev,nosymfollow",
		}
		for target, is := range found {
			_, listed := want[target]
			switch {
			case listed:
			case strings.HasPrefix(target, "/proc/"): // hidden: by the jail's null or an empty directory
				assert.Contains(t, []string{"tmpfs ro,nosuid,nodev,noexec", "node rw,nosuid,noexec"}, is, target)
				delete(found, target)
			case strings.HasPrefix(target, "/dev/"): // nodes, on themselves
				assert.Contains(t, []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}, target)
				assert.Equal(t, "node rw,nosuid,noexec", is, target)
				delete(found, target)
			}
		}
		for target := range want {
			// Not every kernel has every part of procfs.
			if _, err := os.Stat(target); strings.HasPrefix(target, "/proc/") && err != nil {
				delete(want, target)
			}
		}
		assert.Equal(t, want, found)
	})
}

// TestDeviceNodesStay: root inside, whose /dev is, puts nothing in the place of a node. PID 1
// would wait for what can be there, a file with a lease for one.
func TestDeviceNodesStay(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, asRoot(newSpec(newRootfs(t), userns)))
		assert.Equal(t, "6\n", j.out(`cd /dev; touch mine || echo no root
			for n in null zero full random urandom tty; do rm -f $n 2>&-; mv -f mine $n 2>&-; done
			n=0; for i in null zero full random urandom tty; do test -c $i && n=$((n+1)); done; echo $n`))
	})
}

// TestDeviceNodesAreTheJailsOwn: whoever can read a node can watch it, and then each use of
// it by anybody is told to him and takes its time. So those of a jail are the host's and
// another jail's devices, and not their nodes.
func TestDeviceNodesAreTheJailsOwn(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		one, two := newSpec(newRootfs(t), userns), newSpec(newRootfs(t), userns)
		two.Name, two.Logins = "two", []jail.Login{{HostUID: testUID + 1, UID: jailUID}}
		if userns {
			two.Userns = testRange(1)
		}
		a, b := mustStart(t, one), mustStart(t, two)
		require.NotContains(t, a.Warning, "device nodes")
		names := []string{"null", "zero", "full", "random", "urandom", "tty"}
		paths := "/dev/" + strings.Join(names, " /dev/")
		const format = "%n %d:%i %F %t,%T %a"
		inA, inB := a.out("stat -c '"+format+"' "+paths), b.out("stat -c '"+format+"' "+paths)
		of := func(text, name string) (node, is string) {
			for line := range strings.Lines(text) {
				if f := strings.SplitN(strings.TrimSpace(line), " ", 3); f[0] == "/dev/"+name {
					return f[1], f[2]
				}
			}
			require.Fail(t, "missing: "+name, text)
			return "", ""
		}
		for _, name := range names {
			var st syscall.Stat_t
			require.NoError(t, syscall.Stat("/dev/"+name, &st))
			host := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
			nodeA, isA := of(inA, name)
			nodeB, isB := of(inB, name)
			assert.Equal(t, fmt.Sprintf("character special file %x,%x 666", st.Rdev>>8, st.Rdev&0xff), isA, name)
			assert.Equal(t, isA, isB)
			assert.NotEqual(t, host, nodeA, name)
			assert.NotEqual(t, host, nodeB, name)
			assert.NotEqual(t, nodeA, nodeB, name)
		}
		assert.Equal(t, "ok\n", a.out("echo x >/dev/null && head -c 5 /dev/urandom >/dev/null && echo ok"))
		assert.Equal(t, "no\n", a.out("mkdir /dev/mine 2>/dev/null || echo no"), "it is root's")
	})
}
