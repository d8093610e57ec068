// Package netload puts package network's plan into the kernel: programs at the root of the
// unified hierarchy, maps, and addresses of the loopback interface. It is for the host's
// root, and runs in a process of its own that ends.
//
// Everything is pinned, below a directory that only root enters, and works without any
// process of ours:
//
//	/sys/fs/bpf/jail/1-1/map_uid ...      layout 1, first generation
//	                     link_bind4 ...
//
// Programs are replaced by others atomically, one by one. Maps are changed in place; with
// another layout, or where some are missing, a whole generation is made beside the one there
// is, which goes when the new one works.
package netload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"jail/internal/cgroup"
	"jail/internal/network"
)

// bpffs is where the BPF file system is mounted, by systemd as a rule.
const bpffs = "/sys/fs/bpf"

// Where the kernel tells of itself.
var (
	kernelTypes = "/sys/kernel/btf/vmlinux"
	mountInfo   = "/proc/self/mountinfo"
)

// maps are descriptors of the maps, for programs.
type maps struct{ uid, cgroup, ports, open, tag int }

// features are what a kernel has.
type features struct {
	cookie       uint64 // of the network namespace that jails are in
	netnsCookie  bool   // Linux 5.14
	setRetval    bool   // Linux 5.18
	sockFields   bool   // with BTF
	packetCookie bool   // Linux 6.15
	cgroups      bool   // no feature: there are jails that are known by their cgroup
}

func mapSpecs() map[string]*ebpf.MapSpec {
	integer, long := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	return map[string]*ebpf.MapSpec{
		"uid":    {Name: "jail_uid", Type: ebpf.LPMTrie, KeySize: network.UIDSize, ValueSize: network.JailSize, MaxEntries: 1 << 20, Flags: unix.BPF_F_NO_PREALLOC},
		"cgroup": {Name: "jail_cgroup", Type: ebpf.Hash, KeySize: network.CgroupSize, ValueSize: network.JailSize, MaxEntries: 1 << 16, Flags: unix.BPF_F_NO_PREALLOC},
		"ports":  {Name: "jail_ports", Type: ebpf.Array, KeySize: 4, ValueSize: network.PortSize, MaxEntries: 1 << 16},
		"open":   {Name: "jail_open", Type: ebpf.Hash, KeySize: network.OpenSize, ValueSize: 4, MaxEntries: network.MaxOpened, Flags: unix.BPF_F_NO_PREALLOC},
		"tag":    {Name: "jail_tag", Type: ebpf.SkStorage, KeySize: 4, ValueSize: 8, Flags: unix.BPF_F_NO_PREALLOC | unix.BPF_F_CLONE, Key: integer, Value: long},
	}
}

// loaded is a generation.
type loaded struct {
	dir  string
	maps map[string]*ebpf.Map
}

func (l *loaded) close() {
	for _, m := range l.maps {
		m.Close()
	}
}

func (l *loaded) fds() maps {
	return maps{l.maps["uid"].FD(), l.maps["cgroup"].FD(), l.maps["ports"].FD(), l.maps["open"].FD(), l.maps["tag"].FD()}
}

// Apply makes the kernel's state that of the plan. An empty plan takes everything away,
// unless there are processes that it still is for. With an error nothing is certain, and no
// jail of the plan may start; what was in force stays so as far as it goes.
func Apply(dir string, plan *network.Plan) (network.Answer, error) {
	generations, err := generationsIn(dir)
	if err != nil {
		return network.Answer{}, err
	}
	empty := len(plan.Jails) == 0 && len(plan.Reserved) == 0
	if empty && len(generations) == 0 {
		return network.Answer{}, nil
	}
	kernel, err := probe()
	if err != nil {
		return network.Answer{}, err
	}
	root, err := cgroup.Root(mountInfo)
	if err != nil {
		return network.Answer{}, err
	}
	now, err := open(dir, generations)
	if err != nil {
		return network.Answer{}, err
	}
	if now == nil {
		if now, err = create(dir, generations); err != nil {
			return network.Answer{}, err
		}
	}
	defer now.close()
	c, err := now.look(plan, root)
	if err != nil {
		return network.Answer{}, err
	}
	if empty && len(c.ids) == 0 {
		return network.Answer{}, errors.Join(remove(dir), setAddresses(nil))
	}
	kernel.cgroups = c.byCgroup
	if err := setAddresses(c.ids); err != nil {
		return network.Answer{}, err
	}
	if err := now.fill(plan, c); err != nil {
		return network.Answer{}, err
	}
	if err := now.attach(kernel, root); err != nil {
		return network.Answer{}, err
	}
	for _, g := range generations {
		if g != now.dir {
			if err := remove(g); err != nil {
				return network.Answer{}, err
			}
		}
	}
	return network.Answer{Refused: c.refused, Unsettled: c.unsettled}, nil
}

// generationsIn lists the generations of a directory.
func generationsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []string
	for _, e := range entries {
		list = append(list, filepath.Join(dir, e.Name()))
	}
	return list, err
}

// layoutOf is the layout of a generation, -1 if it is none.
func layoutOf(generation string) int {
	layout, _, _ := strings.Cut(filepath.Base(generation), "-")
	n, err := strconv.Atoi(layout)
	if err != nil {
		return -1
	}
	return n
}

// open opens the maps of the generation of this layout; nil if one is missing, and a new
// one has to be made.
func open(dir string, generations []string) (*loaded, error) {
	for _, g := range generations {
		if layoutOf(g) != network.Layout {
			continue
		}
		l := &loaded{dir: g, maps: map[string]*ebpf.Map{}}
		for name, spec := range mapSpecs() {
			m, err := ebpf.LoadPinnedMap(filepath.Join(g, "map_"+name), nil)
			if err != nil {
				break
			}
			if l.maps[name] = m; spec.Compatible(m) != nil {
				break
			}
		}
		if len(l.maps) == len(mapSpecs()) {
			return l, nil
		}
		l.close()
	}
	return nil, nil
}

// create makes the maps of a new generation.
func create(dir string, generations []string) (*loaded, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		return nil, fmt.Errorf("%s is no BPF file system; mount -t bpf bpf %[1]s, as systemd does", bpffs)
	}
	number := 1
	for _, g := range generations {
		if _, n, ok := strings.Cut(filepath.Base(g), "-"); ok {
			if n, err := strconv.Atoi(n); err == nil {
				number = max(number, n+1)
			}
		}
	}
	l := &loaded{dir: filepath.Join(dir, fmt.Sprintf("%d-%d", network.Layout, number)), maps: map[string]*ebpf.Map{}}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	for name, spec := range mapSpecs() {
		m, err := ebpf.NewMap(spec)
		if err == nil {
			l.maps[name] = m
			err = m.Pin(filepath.Join(l.dir, "map_"+name))
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("BPF map %s: %w", spec.Name, err)
		}
	}
	return l, nil
}

// remove removes a directory of pins, and with them what nobody else holds. Links go before
// the maps they use.
func remove(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			dirs = append(dirs, path)
			return err
		}
		return os.Remove(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = os.Remove(dirs[i])
	}
	return err
}

// probe finds out what the kernel has.
func probe() (features, error) {
	if _, err := os.Stat(kernelTypes); err != nil {
		return features{}, fmt.Errorf("this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return features{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	k := features{netnsCookie: true, sockFields: true}
	if k.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		return features{}, fmt.Errorf("this kernel cannot tell network namespaces apart (SO_NETNS_COOKIE, Linux 5.14): %w", err)
	}
	k.setRetval = has(ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, asm.Mov.Imm(asm.R1, -1), asm.FnSetRetval.Call())
	k.packetCookie = has(ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, asm.FnGetNetnsCookie.Call())
	return k, nil
}

// has reports whether a program with these instructions can be loaded.
func has(kind ebpf.ProgramType, attach ebpf.AttachType, ins ...asm.Instruction) bool {
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "jail_probe", Type: kind, AttachType: attach, License: license,
		Instructions: append(ins, asm.Mov.Imm(asm.R0, 1), asm.Return())}, ebpf.ProgramOptions{LogDisabled: true})
	if err != nil {
		return false
	}
	p.Close()
	return true
}

// license is what the kernel is told of the programs. It shows fields of its structures,
// as onlySix reads one, to those under a licence of its own only (kernel/bpf/verifier.c), so
// what this package writes for it may be used under the MIT licence and the GPL as well.
const license = "Dual MIT/GPL"

// spec is the program of a hook.
func (h *hook) spec(kernel features, m maps) *ebpf.ProgramSpec {
	p := &program{kernel: kernel, maps: m}
	h.write(p)
	return &ebpf.ProgramSpec{Name: "jail_" + h.name, Type: h.kind, AttachType: h.attach, Instructions: p.ins, License: license}
}

// attach makes the programs at root those of this build.
func (l *loaded) attach(kernel features, root string) error {
	for i := range hooks {
		if err := l.attachOne(&hooks[i], kernel, root); err != nil {
			return fmt.Errorf("BPF program jail_%s: %w", hooks[i].name, err)
		}
	}
	return nil
}

func (l *loaded) attachOne(h *hook, kernel features, root string) error {
	pin := filepath.Join(l.dir, network.LinkPrefix+h.name)
	spec := h.spec(kernel, l.fds())
	old, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer old.Close()
		if same(old, spec) {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return err
	}
	defer prog.Close()
	if old != nil {
		return old.Update(prog)
	}
	made, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: h.attach, Program: prog})
	if err != nil {
		return fmt.Errorf("attach to %s: %w", root, err)
	}
	defer made.Close()
	return made.Pin(pin)
}

// same reports whether a link's program is that of spec.
func same(l link.Link, spec *ebpf.ProgramSpec) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer prog.Close()
	now, err := prog.Info()
	if err != nil {
		return false
	}
	// With the jumps resolved, as the kernel has them when it sums them up.
	if err := spec.Instructions.Marshal(io.Discard, binary.LittleEndian); err != nil {
		return false
	}
	return spec.Compatible(now) == nil
}

// Memory is how much the maps and programs of a directory take, in bytes, as the kernel
// charges them (memlock of /proc/PID/fdinfo).
func Memory(dir string) (uint64, error) {
	generations, err := generationsIn(dir)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, g := range generations {
		entries, err := os.ReadDir(g)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			n, err := memoryOf(filepath.Join(g, e.Name()))
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

func memoryOf(pin string) (uint64, error) {
	if strings.HasPrefix(filepath.Base(pin), network.LinkPrefix) {
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return 0, err
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return 0, err
		}
		p, err := ebpf.NewProgramFromID(info.Program)
		if err != nil {
			return 0, err
		}
		defer p.Close()
		prog, err := p.Info()
		if err != nil {
			return 0, err
		}
		n, _ := prog.Memlock()
		return n, nil
	}
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	n, _ := info.Memlock()
	return n, nil
}
