package launch

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/sys"
)

// TestChild compares what is asked of the new process whole: each line is a wall.
func TestChild(t *testing.T) {
	const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	u := jail.Userns{Enabled: true, Base: 100_000, Size: 65_536}
	login := []jail.Login{{HostUID: 1000, UID: 500, GID: 600, HasGID: true}}
	all := func() *sys.Child {
		c := sys.NewChild()
		c.CloneFlags = namespaces
		c.OwnCgroupRoot = true
		c.SyncFD = 13
		c.SetCaps, c.LastCap = true, 40
		c.TimerSlack = 10_000_000
		c.JoinKeyring = true
		c.LandlockFD = 77
		c.Setsid = true
		c.FDs = [4]int{10, 10, 12, 11}
		c.Umask = 0o022
		c.ExecFD = 88
		return c
	}
	const (
		// chown, dac_override, fowner, fsetid, kill, setgid, setuid, sys_chroot
		profile = 0x400fb
		// the same, setpcap, setfcap, net_bind_service, net_raw
		profileUserns = 0x800425fb
		// what PID 1 is to have, and what it needs before that
		pid1 = 0xe9 // chown, fowner, kill, setgid, setuid
	)
	for claim, c := range map[string]struct {
		launcher *Launcher
		spec     jail.Spec
		want     func(c *sys.Child)
	}{
		"a jail": {&Launcher{}, jail.Spec{Userns: u}, func(c *sys.Child) {
			c.CloneFlags |= syscall.CLONE_NEWUSER
			c.Owner, c.Processes, c.EarlyCred = 165_535, cgroup.DefaultPids+cgroup.PID1Threads, true
			c.Bounding = profileUserns
			c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapSysResource
		}},
		"with a limit on its processes, of a launcher with a loginuid": {
			&Launcher{hasLogin: true}, jail.Spec{Userns: u, Limits: jail.Limits{Pids: 10}}, func(c *sys.Child) {
				c.CloneFlags |= syscall.CLONE_NEWUSER
				c.Owner, c.Processes, c.EarlyCred = 165_535, 10+cgroup.PID1Threads, true
				c.UnsetLogin = true
				c.Bounding = profileUserns
				c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapSysResource
			},
		},
		"without any": {&Launcher{}, jail.Spec{Userns: u, Limits: jail.Limits{PidsUnlimited: true}}, func(c *sys.Child) {
			c.CloneFlags |= syscall.CLONE_NEWUSER
			c.Owner, c.EarlyCred = 165_535, true
			c.Bounding = profileUserns
			c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapSysResource
		}},
		"root mode": {&Launcher{}, jail.Spec{}, func(c *sys.Child) {
			c.NoNewPrivs = true
			c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapMknod
		}},
		"root mode with set-uid programs": {&Launcher{hasLogin: true}, jail.Spec{ContainerRoot: true}, func(c *sys.Child) {
			c.UnsetLogin = true
			c.Bounding = profile
			c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapMknod
		}},
		"an ordinary user's, with the one id": {
			&Launcher{rootless: true, hasLogin: true}, jail.Spec{Userns: jail.Userns{Enabled: true, Base: 1000, Size: 1}}, func(c *sys.Child) {
				c.CloneFlags |= syscall.CLONE_NEWUSER
				c.EarlyCred, c.EarlyUID, c.EarlyGID, c.Ambient, c.KeepGroups = true, 500, 600, true, true
				c.CloneExe = true
				c.Bounding = profileUserns
				c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapSysResource
			},
		},
		"an ordinary user's, with a range": {&Launcher{rootless: true}, jail.Spec{Userns: u}, func(c *sys.Child) {
			c.CloneFlags |= syscall.CLONE_NEWUSER
			c.EarlyCred, c.CloneExe = true, true
			c.Bounding = profileUserns
			c.Inheritable = pid1 | sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapSysResource
		}},
	} {
		t.Run(claim, func(t *testing.T) {
			c.spec.Name, c.spec.Logins = "name", login
			c.launcher.exe, c.launcher.landlock, c.launcher.lastCap = 88, 77, 40
			want, got := all(), c.launcher.child(&c.spec, &ends{null: 10, itsConn: 11, itsStderr: 12, itsSync: 13}, nil)
			c.want(want)
			// What it executes is not a wall; the environment is tested with a real one.
			want.Path, want.Argv, want.Envp, want.ExecMsg = got.Path, got.Argv, got.Envp, got.ExecMsg
			w, g := reflect.ValueOf(*want), reflect.ValueOf(*got)
			for i := range w.NumField() {
				if f := w.Type().Field(i); f.IsExported() {
					assert.Equal(t, w.Field(i).Interface(), g.Field(i).Interface(), f.Name)
				}
			}
			assert.NotEqual(t, c.launcher.rootless, got.Path == nil)
		})
	}
}

// TestWarnsOfCrashesThatReachTheHost: P12.
func TestWarnsOfCrashesThatReachTheHost(t *testing.T) {
	defer func(old string) { corePattern = old }(corePattern)
	l := &Launcher{rootless: true, cgroups: cgroup.Find(cgroup.Alone)}
	for pattern, warned := range map[string]bool{
		"@/run/coredump.socket\n": true, "@@/run/coredump.socket\n": true,
		"|/lib/systemd/systemd-coredump %P\n": false, "core\n": false, "/cores/@%p\n": false,
	} {
		corePattern = filepath.Join(t.TempDir(), "core_pattern")
		require.NoError(t, os.WriteFile(corePattern, []byte(pattern), 0o644))
		assert.Equal(t, warned, strings.Contains(strings.Join(l.Warnings(), "\n"), "core_pattern"), pattern)
	}
}
