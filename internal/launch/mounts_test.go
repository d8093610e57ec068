package launch_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
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
				// The null of a user namespace is a mount of the host's, and has its options.
				assert.True(t, is == "tmpfs ro,nosuid,nodev,noexec" || strings.HasPrefix(is, "node rw"), "%s: %s", target, is)
				delete(found, target)
			case strings.HasPrefix(target, "/dev/") && userns: // nodes are the host's
				assert.Contains(t, []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}, target)
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
