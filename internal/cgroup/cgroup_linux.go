// Package cgroup keeps the resource limits of a jail, on the unified hierarchy
// (cgroups(7)). A limit the registry promises and this machine cannot keep is an
// error. A jail without any gets a cgroup all the same, where there is a place for
// one, with a limit on its processes: a fork bomb stays in its jail. In a user
// namespace it does so without a cgroup too.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"jail/internal/jail"
	"jail/internal/sys"
)

// DefaultPids is the limit on the processes of a jail whose registry says nothing
// about them.
const DefaultPids = jail.DefaultPids

// PID1Threads is how many threads PID 1 has at most. They are in the jail's cgroup
// and come on top of limits.pids, which counts what runs in the jail.
const PID1Threads = 8

// controllers are those that the limits need, but for io: where that is on, each cgroup writes
// back what is dirty by itself (Documentation/admin-guide/cgroup-v2.rst, Writeback), so
// it is turned on when a jail wants a share of the disk.
var controllers = []string{"cpu", "memory", "pids"}

// Base is the cgroup below which jails get theirs.
type Base struct {
	life  Life
	marks Marks

	mu      sync.Mutex
	current *divided
	why     string // why there is none
	// known is where jails have theirs that are known by it: current, or, where the unified
	// hierarchy is beside others that have the controllers, a place in that.
	known   *divided
	unknown string // why there is none
}

// Marks is told of the cgroups by which jails with the host's ids are known.
type Marks interface {
	// Enter is called with a jail's cgroup (see ID) before a process is in it; id 0 says
	// that it cannot have one, because of why. With an error the jail does not start.
	Enter(spec *jail.Spec, id uint64, why string) error
	// Left is called when a cgroup is gone.
	Left(id uint64)
}

// Mark has m told of cgroups. It is for before the first Make.
func (b *Base) Mark(m Marks) { b.marks = m }

// divided is a cgroup that has been prepared for others below it. It does not
// change.
type divided struct {
	dir     string
	created bool            // it is ours, below the root cgroup
	enabled map[string]bool // controllers the cgroups below have
}

// Find looks for a cgroup to divide and prepares it. Nothing is an error before a
// limit is promised: Make says so then.
func Find(life Life) *Base {
	b := &Base{life: life}
	b.look()
	return b
}

// look looks where the place is now: a unit may have been started, or anew.
func (b *Base) look() (*divided, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
	var p place
	if p, b.why = here(b.life); b.why == "" {
		var err error
		if b.current, err = p.prepare(); err != nil {
			b.why = err.Error()
		}
	}
	b.known, b.unknown = b.current, b.why
	if b.current == nil && b.life != Alone && !Unified() {
		if p, b.unknown = beside(b.life); b.unknown == "" {
			var err error
			if b.known, err = p.prepare(); err != nil {
				b.unknown = err.Error()
			}
		}
	}
	return b.current, b.why
}

// marked is the place of cgroups that jails are known by, which may have no controllers.
func (b *Base) marked() (*divided, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		return b.current, ""
	}
	return b.known, b.unknown
}

// get returns the place that is known.
func (b *Base) get() (*divided, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.why
}

// getFor is get for a jail that is to have these limits: the io controller is on, if they
// need it and it is to be had.
func (b *Base) getFor(l *jail.Limits) (*divided, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.current; d != nil && l.IOWeight > 0 && !d.enabled["io"] {
		if more, err := turnOn(d.dir, d.created, []string{"io"}); err == nil {
			b.current = more
		}
	}
	return b.current, b.why
}

// Warning says what no jail with userns = false can be given, "" if there is nothing to say.
func (b *Base) Warning() string {
	switch d, why := b.get(); {
	case d == nil:
		return "jails with userns = false have no limit on their processes, and limits.memory and limits.cpu cannot be kept: " + why
	case !d.enabled["pids"]:
		return "jails with userns = false have no limit on their processes: " + d.missing("pids").Error()
	}
	return ""
}

func (d *divided) missing(controller string) error {
	return fmt.Errorf("the cgroup %s has no %s controller to give (cgroup.controllers there and in its parents; cgroup_enable=%[2]s on the kernel's command line; Delegate=yes of the unit)", d.dir, controller)
}

// prepare empties the place of processes, since a cgroup that divides its resources
// may hold none itself (cgroups(7), "no internal processes"), and turns the
// controllers on below it. It changes nothing that is so already.
func (p place) prepare() (*divided, error) {
	if p.create {
		if err := os.Mkdir(p.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if p.vacate {
		if err := vacate(p.dir); err != nil {
			return nil, err
		}
	}
	return turnOn(p.dir, p.create, controllers)
}

// turnOn turns controllers on below a cgroup, those that are to be had.
func turnOn(dir string, created bool, controllers []string) (*divided, error) {
	// One by one: a controller that is not there must not take the others along.
	control := filepath.Join(dir, "cgroup.subtree_control")
	for _, c := range controllers {
		if created {
			_ = write(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"), "+"+c)
		}
		_ = write(control, "+"+c)
	}
	text, err := os.ReadFile(control)
	if err != nil {
		return nil, err
	}
	d := &divided{dir: dir, created: created, enabled: map[string]bool{}}
	for _, c := range strings.Fields(string(text)) {
		d.enabled[c] = true
	}
	return d, nil
}

// vacate moves the processes of a cgroup into a leaf of it.
func vacate(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	pids := strings.Fields(string(text))
	if len(pids) == 0 {
		return nil
	}
	to := filepath.Join(dir, leaf)
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, pid := range pids {
		if err := write(filepath.Join(to, "cgroup.procs"), pid); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// write writes to a cgroup's file. It does not create one: what is not there is
// ErrNotExist.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Group is one jail's cgroup; nil is a jail that has none.
type Group struct {
	dir  string
	fd   int
	id   uint64
	base *Base
}

// errOccupied is a cgroup of a jail that has not quite ended: a process of it waits
// for a file system that does not answer.
var errOccupied = errors.New("processes of an earlier run, or of another jail of this name,")

// Needs reports whether a jail must not start without its cgroup: because of its limits, or
// since it is known by that (Known). counted says that something else bounds its processes:
// the owner of its user namespace, for whom the kernel counts them too (sys.Child.Processes).
func Needs(spec *jail.Spec, counted bool) bool { return Limited(&spec.Limits, counted) || Known(spec) }

// Limited reports whether there are limits that take a cgroup.
func Limited(l *jail.Limits, counted bool) bool {
	return l.MemoryBytes > 0 || l.CPUPercent > 0 || l.IOWeight > 0 || l.Pids > 0 && !counted
}

// Known reports whether a jail is known by its cgroup alone: it has a network of its own, and
// the host's ids.
func Known(spec *jail.Spec) bool { return spec.Network.Owned() && !spec.Userns.Enabled }

// Processes is how many processes and threads a jail may have, PID 1's included; 0 is
// no bound.
func Processes(l *jail.Limits) uint64 {
	switch {
	case l.Pids > 0:
		return uint64(l.Pids) + PID1Threads
	case l.PidsUnlimited:
		return 0
	}
	return DefaultPids + PID1Threads
}

// Make makes the cgroup of a jail and sets its limits. If it can do without (Needs), a
// jail that cannot have a cgroup is no error; then the warning says what it lacks,
// "" where that is nothing or was known from the start.
func (b *Base) Make(spec *jail.Spec, counted bool) (g *Group, warning string, err error) {
	if g, warning, err = b.limited(spec, counted); err != nil || spec.Userns.Enabled {
		return g, warning, err
	}
	why := warning
	if g == nil && why == "" {
		d, unknown := b.marked()
		if d == nil && Known(spec) {
			b.look()
			d, unknown = b.marked()
		}
		if why = unknown; d != nil {
			if g, err = d.make(b, spec, counted); err != nil {
				why = err.Error()
			}
		}
	}
	if b.marks == nil {
		return g, warning, nil
	}
	id := uint64(0)
	if g != nil {
		id = g.id
	}
	if err := b.marks.Enter(spec, id, why); err != nil {
		g.Remove()
		return nil, "", err
	}
	return g, warning, nil
}

// limited is Make for the limits.
func (b *Base) limited(spec *jail.Spec, counted bool) (g *Group, warning string, err error) {
	promised := Limited(&spec.Limits, counted)
	d, why := b.getFor(&spec.Limits)
	if d != nil {
		if g, err = d.make(b, spec, counted); err == nil {
			return g, "", nil
		}
	}
	if d == nil && promised || errors.Is(err, fs.ErrNotExist) {
		if d, why = b.look(); d != nil {
			d, _ = b.getFor(&spec.Limits)
			g, err = d.make(b, spec, counted)
		}
	}
	switch {
	case d == nil && promised:
		return nil, "", errors.New("limits: they cannot be kept, since " + why + "; or remove them")
	case d == nil, err == nil:
		return g, "", nil
	case promised:
		return nil, "", fmt.Errorf("limits: %w", err)
	case errors.Is(err, errOccupied):
		return nil, "", err
	case counted:
		return nil, "no cgroup: " + err.Error(), nil
	}
	return nil, "no limit on its processes: " + err.Error(), nil
}

func (d *divided) make(b *Base, spec *jail.Spec, counted bool) (*Group, error) {
	g := &Group{dir: d.of(spec.Name), fd: -1, base: b}
	err := os.Mkdir(g.dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		// Left by an earlier run; then it is empty, as a rule.
		if err = b.remove(g.dir); err == nil {
			err = os.Mkdir(g.dir, 0o755)
		} else if errors.Is(err, syscall.EBUSY) {
			return nil, fmt.Errorf("%w are in %s", errOccupied, g.dir)
		}
	}
	if err != nil {
		return nil, err
	}
	list := settings(&spec.Limits)
	if !spec.Userns.Enabled {
		// Whoever is in a cgroup below would be known no more.
		list = append(list, setting{"cgroup.max.descendants", "0", Known(spec)})
	}
	for _, s := range list {
		err := write(filepath.Join(g.dir, s.file), s.text)
		if errors.Is(err, fs.ErrNotExist) {
			s.promised = s.promised && !(counted && s.file == "pids.max")
			err = d.without(s, err)
		}
		if err != nil {
			g.Remove()
			return nil, err
		}
	}
	if g.fd, err = syscall.Open(g.dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err != nil {
		g.Remove()
		return nil, &fs.PathError{Op: "open", Path: g.dir, Err: err}
	}
	if g.id, err = ID(g.dir); err != nil {
		g.Remove()
		return nil, err
	}
	return g, nil
}

// without says what it means that a new cgroup lacks the file of a setting: an
// error, which is ErrNotExist if the place has to be prepared again, or nothing.
func (d *divided) without(s setting, err error) error {
	controller, _, _ := strings.Cut(s.file, ".")
	switch {
	case !d.enabled[controller] && !s.promised:
		return nil // Warning says it
	case !d.enabled[controller]:
		return d.missing(controller)
	case controller == "io" && s.promised:
		return errors.New("this kernel keeps no shares of a disk (io.weight, CONFIG_BLK_CGROUP_IOCOST); take out io_weight")
	case controller == "io":
		return nil
	case s.file != "memory.swap.max":
		return err
	case !s.promised:
		return nil
	case swapIsOn():
		return errors.New("this kernel does not count swap, which is on; take swapaccount=0 from its command line, or run swapoff -a")
	}
	return nil
}

func swapIsOn() bool {
	text, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(text), "\n") > 1
}

// setting is what is written to one file of a new cgroup.
type setting struct {
	file, text string
	promised   bool
}

// settings puts limits into the kernel's words
// (Documentation/admin-guide/cgroup-v2.rst).
func settings(l *jail.Limits) []setting {
	var s []setting
	if l.MemoryBytes > 0 {
		s = append(s, setting{"memory.max", strconv.FormatUint(l.MemoryBytes, 10), true})
		// Or the limit would only be one of the memory that is not swapped.
		s = append(s, setting{"memory.swap.max", "0", true})
	}
	if l.CPUPercent > 0 {
		s = append(s, setting{"cpu.max", strconv.FormatUint(uint64(l.CPUPercent)*1000, 10) + " 100000", true})
	}
	if l.IOWeight > 0 {
		s = append(s, setting{"io.weight", "default " + strconv.FormatUint(uint64(l.IOWeight), 10), true},
			setting{"io.bfq.weight", strconv.FormatUint(uint64(bfqWeight(l.IOWeight)), 10), false})
	}
	if n := Processes(l); n > 0 {
		s = append(s, setting{"pids.max", strconv.FormatUint(n, 10), l.Pids > 0})
	}
	return s
}

// bfqWeight is a weight for disks that the scheduler BFQ serves: it has 1000 at most, and 100
// means the same. systemd converts IOWeight= like this.
func bfqWeight(w uint32) uint32 {
	if w <= 100 {
		return w
	}
	return 100 + (w-100)*(1000-100)/(jail.MaxIOWeight-100)
}

// Change sets the limits of a jail that runs. What the limits say nothing of has none from
// then on, but for the processes, of which there is the default. To lower the memory takes as
// long as the kernel needs to get it back, and may cost processes (memory.max). It is an
// error if one that is given cannot be kept; the others are set all the same.
func (b *Base) Change(name string, l *jail.Limits) error {
	d, why := b.getFor(l)
	if d == nil {
		if *l == (jail.Limits{}) {
			return nil
		}
		return errors.New("limits: they cannot be kept, since " + why)
	}
	dir := d.of(name)
	if _, err := os.Stat(dir); err != nil {
		return errors.New("limits: the jail was started without a cgroup; they hold when it starts anew")
	}
	var errs []error
	for _, s := range changes(l) {
		err := write(filepath.Join(dir, s.file), s.text)
		if errors.Is(err, fs.ErrNotExist) {
			err = d.without(s, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("limits: %w", err))
		}
	}
	return errors.Join(errs...)
}

// changes are settings with what takes limits away.
func changes(l *jail.Limits) []setting {
	all := []setting{{"memory.max", "max", false}, {"memory.swap.max", "max", false}, {"cpu.max", "max 100000", false}, {"pids.max", "max", false},
		{"io.weight", "default 100", false}, {"io.bfq.weight", "100", false}}
	for _, s := range settings(l) {
		for i := range all {
			if all[i].file == s.file {
				all[i] = s
			}
		}
	}
	return all
}

// FD is the cgroup's directory, to clone the jail's first process into; -1 if
// there is no cgroup.
func (g *Group) FD() int {
	if g == nil {
		return -1
	}
	return g.fd
}

// MemoryEvents opens memory.events of the cgroup for reading; -1 if there is no cgroup, or it has
// no memory controller.
func (g *Group) MemoryEvents() int {
	if g == nil {
		return -1
	}
	fd, err := syscall.Openat(g.fd, memoryEvents, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// memoryEvents counts, in the line oom_kill, the processes of a cgroup that the kernel has killed for want
// of memory (Documentation/admin-guide/cgroup-v2.rst).
const memoryEvents = "memory.events"

// Close lets go of the cgroup's directory.
func (g *Group) Close() {
	if g != nil && g.fd >= 0 {
		sys.Close(g.fd)
		g.fd = -1
	}
}

// Remove removes the cgroup, which must be empty of processes.
func (g *Group) Remove() {
	if g == nil {
		return
	}
	g.Close()
	_ = g.base.remove(g.dir)
}

// remove removes the cgroup of a jail, which must be empty, and says so.
func (b *Base) remove(dir string) error {
	id, err := ID(dir)
	if err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	if b.marks != nil {
		b.marks.Left(id)
	}
	return nil
}

// DirOf is the directory of the cgroup that a jail has while it runs, "" if it has none.
func (b *Base) DirOf(name string) string {
	d, _ := b.marked()
	if d == nil {
		return ""
	}
	return d.of(name)
}

// ID is the number of a cgroup, which no other gets as long as the machine runs: the kernel's
// programs know it by that (bpf_get_current_cgroup_id, bpf-helpers(7); since Linux 5.5 it is
// the directory's inode number on a machine of 64 bits).
func ID(dir string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return st.Ino, nil
}

// of is the cgroup of a jail.
func (d *divided) of(name string) string { return filepath.Join(d.dir, prefix+name) }

// OOMKills is how many processes in the cgroup of a jail the kernel has killed for want of
// memory (oom_kill of memory.events, Documentation/admin-guide/cgroup-v2.rst); 0 without a
// cgroup or its memory controller.
func (b *Base) OOMKills(name string) uint64 {
	d, _ := b.get()
	if d == nil {
		return 0
	}
	text, _ := os.ReadFile(filepath.Join(d.of(name), memoryEvents))
	return lineOf(text, "oom_kill ")
}

// RemoveFor removes the cgroup of a jail that has ended.
func (b *Base) RemoveFor(name string) {
	if d, _ := b.marked(); d != nil {
		_ = b.remove(d.of(name))
	}
}

// Sweep removes the cgroups of jails that ended while nobody was there to do it.
// It is for a time when no jail starts.
func (b *Base) Sweep() {
	d, _ := b.marked()
	if d == nil {
		return
	}
	left, _ := filepath.Glob(d.of("*"))
	for _, dir := range left {
		_ = b.remove(dir) // EBUSY while a process is in it
	}
}
