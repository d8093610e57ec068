package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/cgroup"
	"jail/internal/count"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/quota"
	"jail/internal/source"
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
	prefix, installed := "/usr", false
	if exe, err := os.Executable(); err == nil && filepath.Base(filepath.Dir(exe)) == "sbin" {
		prefix, installed = filepath.Dir(filepath.Dir(exe)), true
		if o.AsRoot == nil {
			o.AsRoot = []string{exe, filepath.Join(prefix, "lib/jail/pid1")}
		}
	}
	if len(o.JailEnter) == 0 {
		o.JailEnter = []string{filepath.Join(prefix, "bin/jail-enter")}
	}
	if o.JailKeys == "" {
		o.JailKeys = filepath.Join(prefix, "lib/jail/jail-keys")
	}
	if o.SFTPServer == "" && installed {
		o.SFTPServer = filepath.Join(prefix, "lib/jail/sftp-server")
	}
	if o.Today == 0 {
		o.Today = time.Now().Unix() / (24 * 60 * 60)
	}
	if o.RuntimeDir == "" {
		o.RuntimeDir = config.DefaultRuntimeDir
	}
	if o.Effective == nil {
		o.Effective = a.effective
	}
	if o.groupsFrom == nil {
		o.groupsFrom = a.groupsFrom
	}
	if o.Version == nil {
		o.Version = a.version
	}
	if o.quota == nil {
		o.quota = func(dir string) (quota.Looked, error) { return quota.Look(dir, time.Second) }
	}
	if o.Kernel == nil {
		o.Kernel = thisKernel(o.Rootless)
	}
}

func thisKernel(rootless bool) *Kernel {
	k := &Kernel{LandlockABI: sys.LandlockABI()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		k.Release = unix.ByteSliceToString(uts.Release[:])
	}
	life := cgroup.Outlive
	if rootless {
		life = cgroup.Within // a serve of theirs is in no unit of root's
	}
	k.Cgroups, k.Controllers, k.NoCgroups, k.CgroupsFix = cgroup.Look(life)
	k.NotKnown, k.NotKnownFix = cgroup.LookKnown(life)
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
		a.add(nil, Error, "kernel-too-old", where, "cannot make a jail, which takes Linux 5.14", "boot Linux 5.14 or later, best 6.12")
	}
	if k.LandlockABI < 6 {
		fix := "boot Linux 6.12 or later"
		if k.LandlockABI == 0 && k.atLeast(6, 12) {
			fix = "add landlock to lsm= on the kernel's command line"
		}
		a.add(nil, Warning, "kernel-no-scopes", where, "has no Landlock scopes, so jails connect to abstract unix sockets of the host (containerd, X11, D-Bus) and of one another", fix)
	}
	if pattern, err := a.files.read("/proc/sys/kernel/core_pattern"); err == nil && launch.CrashesReachTheHost(string(pattern)) {
		a.add(nil, Warning, "core-pattern", "sysctl kernel.core_pattern", "begins with @, so each crash in a jail is told to a program of the host, whatever the limit on core files",
			"sysctl -w kernel.core_pattern=core, or a pattern that begins with |, which jails do not reach")
	}
	var userns, kept []string
	for i := range a.jails {
		j := &a.jails[i]
		if j.Userns.Enabled {
			userns = append(userns, j.Name)
		}
		if j.Userns.Keep {
			kept = append(kept, j.Name)
		}
	}
	if len(kept) > 0 {
		a.add(nil, Note, "userns-keep", "userns", `"keep" makes the sessions of these jails their accounts to the host's kernel, to sockets and to what is counted by uid: `+list(kept),
			`write userns = "auto" where home and mounts are on ext4, xfs or btrfs`)
	}
	if len(userns) > 0 {
		a.checkUserns(userns)
	}
	a.checkLimits()
	a.checkQuotas()
	a.checkPing()
}

// checkQuotas looks at which limits on files the file systems keep.
func (a *auditor) checkQuotas() {
	for i := range a.jails {
		j := &a.jails[i]
		if j.Limits.DiskBytes == 0 && j.Limits.Files == 0 {
			continue
		}
		place := source.Of(j).Places()[0]
		is, err := a.opt.quota(place)
		full := func(has, most uint64) bool { return most > 0 && has >= most-most/20 }
		switch {
		case err != nil:
			a.addJail(j, Error, "quota-unknown", place, "cannot be looked at, so it is not known whether limits.disk and limits.files are kept: "+err.Error(), "check the file system")
		case !is.Kept:
			a.addJail(j, Error, "quota-not-kept", place, "keeps no project quotas, so limits.disk and limits.files cannot be kept and the jail does not start",
				"mount it with prjquota (ext4, after tune2fs -O project,quota) or pquota (xfs)")
		case full(is.Bytes, j.Limits.DiskBytes) || full(is.Files, j.Limits.Files):
			a.addJail(j, Warning, "quota-full", place, fmt.Sprintf("has %d KiB and %s, and so is nearly at its limit", is.Bytes>>10, count.Of(is.Files, "file", "files")), "remove files there, or raise limits")
		}
	}
}

// checkLimits looks at which limits can be kept. Those that are promised are an
// error where they cannot: the jail does not start.
func (a *auditor) checkLimits() {
	k := a.opt.Kernel
	var limited, memory, cpu, pids, io, bare []string
	for i := range a.jails {
		j := &a.jails[i]
		if a.ownUnit(j) {
			continue
		}
		// In a user namespace the kernel counts processes for its owner, which an
		// ordinary user is of all jails together.
		counted := j.Userns.Enabled && !a.opt.Rootless
		if cgroup.Limited(&j.Limits, counted) {
			limited = append(limited, j.Name)
		}
		if j.Limits.MemoryBytes > 0 {
			memory = append(memory, j.Name)
		}
		if j.Limits.CPUPercent > 0 {
			cpu = append(cpu, j.Name)
		}
		if j.Limits.IOWeight > 0 {
			io = append(io, j.Name)
		}
		if j.Limits.Pids > 0 && !counted {
			pids = append(pids, j.Name)
		} else if !j.Limits.PidsUnlimited && !counted && !a.opt.Rootless {
			bare = append(bare, j.Name)
		}
	}
	const noLimit = "so these jails start without a limit on their processes, and a fork bomb in one takes the host along: "
	if k.Cgroups == "" {
		if len(limited) > 0 {
			a.add(nil, Error, "cgroup-no-limits", "/sys/fs/cgroup", k.NoCgroups+", so limits cannot be kept and these jails do not start: "+list(limited), k.CgroupsFix)
		}
		if len(bare) > 0 {
			a.add(nil, Warning, "cgroup-no-pids", "/sys/fs/cgroup", k.NoCgroups+", "+noLimit+list(bare), k.CgroupsFix)
		}
		return
	}
	where := k.Cgroups + "/cgroup.controllers"
	for _, c := range []struct {
		name, limit string
		jails       []string
	}{{"memory", "memory", memory}, {"cpu", "cpu", cpu}, {"pids", "pids", pids}, {"io", "io_weight", io}} {
		if len(c.jails) > 0 && !slices.Contains(k.Controllers, c.name) {
			a.add(nil, Error, "cgroup-no-limits", where, fmt.Sprintf("there is no %s controller, so limits.%s cannot be kept and these jails do not start: %s",
				c.name, c.limit, list(c.jails)), a.addController(c.name))
		}
	}
	if len(bare) > 0 && !slices.Contains(k.Controllers, "pids") {
		a.add(nil, Warning, "cgroup-no-pids", where, "there is no pids controller, "+noLimit+list(bare), a.addController("pids"))
	}
}

// addController says how the host gets a controller.
func (a *auditor) addController(name string) string {
	text, err := a.files.read("/sys/fs/cgroup/cgroup.controllers")
	if err == nil && slices.Contains(strings.Fields(string(text)), name) {
		return "Delegate=yes in the unit" // the kernel has it
	}
	// subsys_name hierarchy num_cgroups enabled, cgroups(7).
	text, _ = a.files.read("/proc/cgroups")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != name {
			continue
		}
		switch {
		case f[3] == "0":
			return "add cgroup_enable=" + name + " to the kernel's command line, and take out a cgroup_disable=" + name
		case f[1] != "0": // a hierarchy of version 1 has it
			return "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line"
		}
	}
	return "boot a kernel that has the " + name + " controller"
}

// ownUnit reports whether systemd starts the jail by a socket of its own
// (jail@UID.socket); then its cgroup is in its own unit.
func (a *auditor) ownUnit(j *jail.Spec) bool {
	for i := range j.Logins {
		if len(a.files.glob(fmt.Sprintf("/etc/systemd/system/*.wants/jail@%d.socket", j.Logins[i].HostUID))) > 0 {
			return true
		}
	}
	return false
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
		{"kernel.apparmor_restrict_unprivileged_userns", 1, "0", true, Warning, "an ordinary user needs an AppArmor profile for jail-init to make a user namespace (one is in /usr/share/doc/jail/examples/apparmor.d)"},
	} {
		if n, ok := value(s.name); ok && n == s.bad && (a.opt.Rootless || !s.rootless) {
			a.add(nil, s.sev, "sysctl-userns", "sysctl "+s.name, fmt.Sprintf("is %d, so %s, without which these jails do not start: %s", n, s.cannot, list(jails)),
				"sysctl -w "+s.name+"="+s.good)
		}
	}
}
