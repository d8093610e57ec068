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

// Base is the cgroup below which jails get theirs: that of this process.
type Base struct {
	dir string // "" if there is no unified hierarchy
}

// Find looks for the unified hierarchy.
func Find() *Base {
	var st syscall.Statfs_t
	if syscall.Statfs(mountPoint, &st) != nil || st.Type != superMagic {
		return &Base{}
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return &Base{}
	}
	for _, line := range strings.Split(string(text), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return &Base{dir: filepath.Join(mountPoint, path)}
		}
	}
	return &Base{}
}

// Group is one jail's cgroup; nil is a jail that has none.
type Group struct {
	dir   string
	procs *os.File
}

// Make makes the cgroup of a jail and sets its limits.
func (b *Base) Make(spec *jail.Spec) (*Group, error) {
	if spec.Limits == (jail.Limits{}) {
		return nil, nil
	}
	if b.dir == "" {
		return nil, errors.New("limits: this machine has no unified cgroup hierarchy (cgroup2 on /sys/fs/cgroup), so they cannot be kept; remove them or boot with systemd.unified_cgroup_hierarchy=1")
	}
	if err := b.delegate(); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
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

// delegate turns the controllers on for the cgroups below the base. Such a
// cgroup may not hold processes itself (cgroups(7), "no internal processes"),
// so this one moves into a leaf of its own first; the root cgroup is exempt.
func (b *Base) delegate() error {
	control := filepath.Join(b.dir, "cgroup.subtree_control")
	enable := func() error { return os.WriteFile(control, []byte("+memory +cpu +pids"), 0) }
	if err := enable(); err == nil {
		return nil
	}
	leaf := filepath.Join(b.dir, "supervisor")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	return enable()
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
