// Package cgroup keeps the resource limits of a jail, on the unified hierarchy.
// A limit the registry promises and this machine cannot keep is an error; a
// jail without limits runs without a cgroup of its own.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/jail"
	"jail/internal/sys"
)

const (
	mountPoint = "/sys/fs/cgroup"
	superMagic = 0x63677270 // CGROUP2_SUPER_MAGIC, statfs(2)
)

// Base is the cgroup below which jails get theirs.
type Base struct {
	dir string // "" if there is none
	why string // why not
}

// leaf is the cgroup a supervisor itself is in when the one above it is delegated
// to it (systemd.resource-control(5), DelegateSubgroup=, systemd 254).
const leaf = "supervisor"

// Find looks for the unified hierarchy and for a place in it. A cgroup that
// divides its resources may not hold processes itself (cgroups(7), "no internal
// processes"), so this process must be either in the root cgroup, which is
// exempt, or in a leaf below one that is delegated to it. Dividing a service's own
// cgroup would work once, and keep the service manager from ever starting it
// again.
func Find() *Base {
	var st syscall.Statfs_t
	if syscall.Statfs(mountPoint, &st) != nil || st.Type != superMagic {
		return &Base{why: "this machine has no unified cgroup hierarchy (cgroup2 on /sys/fs/cgroup); boot with systemd.unified_cgroup_hierarchy=1"}
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return &Base{why: err.Error()}
	}
	for _, line := range strings.Split(string(text), "\n") {
		path, ok := strings.CutPrefix(line, "0::")
		switch {
		case !ok:
		case path == "/":
			return &Base{dir: filepath.Join(mountPoint, "jail")}
		case filepath.Base(path) == leaf:
			return &Base{dir: filepath.Join(mountPoint, filepath.Dir(path))}
		default:
			return &Base{why: "jail-init runs in the cgroup " + path + ", which it may not divide; its unit needs Delegate=yes and DelegateSubgroup=" + leaf + " (systemd 254)"}
		}
	}
	return &Base{why: "this process is in no cgroup of the unified hierarchy"}
}

// Group is one jail's cgroup; nil is a jail that has none.
type Group struct {
	dir   string
	procs *os.File
}

// Make makes the cgroup of a jail and sets its limits. Without limits the jail
// has a cgroup all the same, if there is a place for it, so that it is not in that
// of the supervisor.
func (b *Base) Make(spec *jail.Spec) (*Group, error) {
	limited := spec.Limits != (jail.Limits{})
	if b.dir == "" {
		if limited {
			return nil, errors.New("limits: they cannot be kept, since " + b.why + "; or remove them")
		}
		return nil, nil
	}
	if err := b.prepare(limited); err != nil {
		if limited {
			return nil, fmt.Errorf("limits: %w", err)
		}
		return nil, nil
	}
	g := &Group{dir: filepath.Join(b.dir, "jail-"+spec.Name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("limits: %w", err)
	}
	for _, l := range []struct {
		on   bool
		file string
		text string
	}{
		{spec.Limits.MemoryBytes > 0, "memory.max", strconv.FormatUint(spec.Limits.MemoryBytes, 10)},
		{spec.Limits.CPUPercent > 0, "cpu.max", fmt.Sprintf("%d 100000", uint64(spec.Limits.CPUPercent)*1000)},
		{spec.Limits.Pids > 0, "pids.max", strconv.FormatUint(uint64(spec.Limits.Pids), 10)},
	} {
		if !l.on {
			continue
		}
		if err := os.WriteFile(filepath.Join(g.dir, l.file), []byte(l.text), 0); err != nil {
			g.Remove()
			return nil, fmt.Errorf("limits: %w", err)
		}
	}
	var err error
	if g.procs, err = os.OpenFile(filepath.Join(g.dir, "cgroup.procs"), os.O_WRONLY, 0); err != nil {
		g.Remove()
		return nil, fmt.Errorf("limits: %w", err)
	}
	return g, nil
}

// prepare makes the base and, for limits, turns the controllers on below it.
func (b *Base) prepare(limited bool) error {
	if err := os.Mkdir(b.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if !limited {
		return nil
	}
	const on = "+memory +cpu +pids"
	if filepath.Dir(b.dir) == mountPoint {
		if err := os.WriteFile(filepath.Join(mountPoint, "cgroup.subtree_control"), []byte(on), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(b.dir, "cgroup.subtree_control"), []byte(on), 0)
}

// Procs is the descriptor the jail's first process joins by; -1 if there is no
// cgroup.
func (g *Group) Procs() int {
	if g == nil {
		return -1
	}
	fd := int(g.procs.Fd())
	_, _ = sys.Fcntl(fd, syscall.F_SETFD, syscall.FD_CLOEXEC)
	return fd
}

// Close lets go of the cgroup's descriptor.
func (g *Group) Close() {
	if g != nil && g.procs != nil {
		_ = g.procs.Close()
		g.procs = nil
	}
}

// Remove removes the cgroup once it is empty.
func (g *Group) Remove() {
	if g == nil {
		return
	}
	g.Close()
	_ = os.Remove(g.dir)
}

// RemoveFor removes the cgroup of a jail that has ended.
func (b *Base) RemoveFor(name string) {
	if b.dir != "" {
		_ = os.Remove(filepath.Join(b.dir, "jail-"+name))
	}
}
