package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/sys"
)

// complete fills in what the caller left to the host.
func (a *auditor) complete() {
	o := &a.opt
	if a.files = o.files; a.files == nil {
		a.files = hostFiles(strings.TrimSuffix(o.Root, "/"))
	}
	for _, f := range []struct {
		text *[]byte
		path string
	}{{&o.Passwd, "/etc/passwd"}, {&o.Group, "/etc/group"}, {&o.Shadow, "/etc/shadow"}} {
		if *f.text == nil && !o.Rootless {
			*f.text, _ = a.files.read(f.path)
		}
	}
	if o.PAMDirs == nil {
		o.PAMDirs = []string{"/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"}
	}
	prefix := "/usr"
	if exe, err := os.Executable(); err == nil && filepath.Base(filepath.Dir(exe)) == "sbin" {
		prefix = filepath.Dir(filepath.Dir(exe))
		a.jailInit = exe
	}
	if len(o.JailEnter) == 0 {
		o.JailEnter = []string{filepath.Join(prefix, "bin/jail-enter")}
	}
	if o.JailKeys == "" {
		o.JailKeys = filepath.Join(prefix, "lib/jail/jail-keys")
	}
	if o.SFTPServer == "" && a.jailInit != "" {
		o.SFTPServer = filepath.Join(prefix, "lib/jail/sftp-server")
	}
	if o.Effective == nil {
		o.Effective = a.effective
	}
	if o.Version == nil {
		o.Version = a.version
	}
	if o.Kernel == nil {
		o.Kernel = thisKernel()
	}
}

func thisKernel() *Kernel {
	k := &Kernel{LandlockABI: sys.LandlockABI()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		k.Release = unix.ByteSliceToString(uts.Release[:])
	}
	var st unix.Statfs_t
	k.Cgroup2 = unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
	return k
}

// atLeast compares a kernel's release with a version.
func (k *Kernel) atLeast(major, minor int) bool {
	var have [2]int
	if n, _ := fmt.Sscanf(k.Release, "%d.%d", &have[0], &have[1]); n != 2 {
		return true // not known
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}

func (a *auditor) checkKernel() {
	k := a.opt.Kernel
	where := "kernel " + k.Release
	if !k.atLeast(5, 14) {
		a.add(nil, Error, where, "cannot make a jail, which takes Linux 5.14", "boot Linux 5.14 or later, best 6.12")
	}
	if k.LandlockABI < 6 {
		fix := "boot Linux 6.12 or later"
		if k.LandlockABI == 0 && k.atLeast(6, 12) {
			fix = "add landlock to lsm= on the kernel's command line"
		}
		a.add(nil, Warning, where, "has no Landlock scopes, so jails connect to abstract unix sockets of the host (containerd, X11, D-Bus) and of one another", fix)
	}
	var userns, memory, cpu, pids []string
	for i := range a.jails {
		j := &a.jails[i]
		if j.Userns.Enabled {
			userns = append(userns, j.Name)
		}
		if j.Limits.MemoryBytes > 0 {
			memory = append(memory, j.Name)
		}
		if j.Limits.CPUPercent > 0 {
			cpu = append(cpu, j.Name)
		}
		if j.Limits.Pids > 0 {
			pids = append(pids, j.Name)
		}
	}
	if len(userns) > 0 {
		a.checkUserns(userns)
	}
	if !k.Cgroup2 {
		var limited []string
		for i := range a.jails {
			if a.jails[i].Limits != (jail.Limits{}) {
				limited = append(limited, a.jails[i].Name)
			}
		}
		if len(limited) > 0 {
			a.add(nil, Error, "/sys/fs/cgroup", "is not the unified hierarchy (cgroup2), so the limits cannot be kept and these jails do not start: "+list(limited),
				"add systemd.unified_cgroup_hierarchy=1 to the kernel's command line")
		}
		return
	}
	text, err := a.files.read("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return
	}
	have := " " + strings.TrimSpace(string(text)) + " "
	for _, c := range []struct {
		name  string
		jails []string
	}{{"memory", memory}, {"cpu", cpu}, {"pids", pids}} {
		if len(c.jails) > 0 && !strings.Contains(have, " "+c.name+" ") {
			a.add(nil, Error, "/sys/fs/cgroup/cgroup.controllers", fmt.Sprintf("the kernel has no %s controller, so limits.%s cannot be kept and these jails do not start: %s",
				c.name, c.name, list(c.jails)), "add cgroup_enable="+c.name+" to the kernel's command line")
		}
	}
}

// checkUserns looks at what keeps user namespaces from being made.
func (a *auditor) checkUserns(jails []string) {
	value := func(sysctl string) (int, bool) {
		text, err := a.files.read("/proc/sys/" + strings.ReplaceAll(sysctl, ".", "/"))
		if err != nil {
			return 0, false
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		return n, err == nil
	}
	for _, s := range []struct {
		name     string
		bad      int
		good     string
		rootless bool // keeps ordinary users only
		sev      Severity
		cannot   string
	}{
		{"user.max_user_namespaces", 0, "65536", false, Error, "no user namespace can be made"},
		{"kernel.unprivileged_userns_clone", 0, "1", true, Error, "no ordinary user can make a user namespace"},
		{"kernel.apparmor_restrict_unprivileged_userns", 1, "0", true, Warning, "an ordinary user needs an AppArmor profile for jail-init to make a user namespace"},
	} {
		if n, ok := value(s.name); ok && n == s.bad && (a.opt.Rootless || !s.rootless) {
			a.add(nil, s.sev, "sysctl "+s.name, fmt.Sprintf("is %d, so %s, without which these jails do not start: %s", n, s.cannot, list(jails)),
				"sysctl -w "+s.name+"="+s.good)
		}
	}
}
