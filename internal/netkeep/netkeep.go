// Package netkeep keeps what jails own of the network in the kernel, as the registry says
// it: it has jail-net do so, and knows which jails may start by that. It is for who
// supervises, and for the host's start.
package netkeep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/network"
	"jail/internal/sys"
)

const (
	// bpffs is where the BPF file system is mounted, by systemd as a rule.
	bpffs = "/sys/fs/bpf"
	// within is how long jail-net may take: the kernel checks its programs for some tenths
	// of a second.
	within = 20 * time.Second
	// resolvConf is the host's.
	resolvConf = "/etc/resolv.conf"
)

// Keeper keeps the network of a runtime directory's jails.
type Keeper struct {
	lock, pins string
	ask        func(*network.Request) (network.Answer, error)
	resolvConf string
	cgroupOf   func(name string) string // nil where no jail runs by this program

	applying sync.Mutex // one at a time, in the order of the registries
	settling sync.Mutex
	pause    time.Duration // the first of Settle

	mu        sync.Mutex
	jails     []jail.Spec
	reserved  []jail.Ports
	resolvers []netip.Addr
	ids       map[string]uint16                 // of those that are in the kernel
	values    map[string][network.JailSize]byte // of those that are known by their cgroup
	refused   map[string]string
	err       error
	unsettled bool
}

// New returns a Keeper.
func New(runtimeDir string) *Keeper {
	return &Keeper{lock: filepath.Join(runtimeDir, "network.lock"), pins: Pins(runtimeDir), ask: askProgram, resolvConf: resolvConf, pause: time.Second}
}

// Pins is the directory of the pins that belong to a runtime directory.
func Pins(runtimeDir string) string {
	dir := filepath.Clean(runtimeDir)
	if dir == config.DefaultRuntimeDir {
		return filepath.Join(bpffs, "jail")
	}
	h := fnv.New32a()
	h.Write([]byte(dir))
	return filepath.Join(bpffs, fmt.Sprintf("jail-%08x", h.Sum32()))
}

// Follow has the Keeper look for the cgroups of running jails where of says, which may be
// nowhere ("").
func (k *Keeper) Follow(of func(name string) string) { k.cgroupOf = of }

// Apply makes the kernel's state that of a registry. It runs a program, which may take
// some tenths of a second, and 20 seconds at most. With an error no jail that has keys about
// the network may start; the others start, though what is reserved may not be kept from them.
func (k *Keeper) Apply(reg *config.Registry) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	return k.apply(reg.Jails, reg.Reserved)
}

// Again does what Apply did last, if that would change something (stale): jails have ended, or
// the host's name servers are others.
func (k *Keeper) Again() error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if !k.stale() {
		return nil // somebody has done it meanwhile
	}
	k.mu.Lock()
	jails, reserved := k.jails, k.reserved
	k.mu.Unlock()
	return k.apply(jails, reserved)
}

func (k *Keeper) apply(jails []jail.Spec, reserved []jail.Ports) error {
	var resolvers []netip.Addr
	if slices.ContainsFunc(jails, ownsLoopback) {
		text, _ := os.ReadFile(k.resolvConf) // without it there are none to reach
		resolvers = network.Resolvers(text)
	}
	plan := network.Make(jails, reserved, resolvers)
	values := map[string][network.JailSize]byte{}
	for i := range plan.Jails {
		if j := &plan.Jails[i]; j.ByCgroup {
			values[j.Name] = j.Value()
			if k.cgroupOf != nil {
				j.Cgroup = k.cgroupOf(j.Name)
			}
		}
	}
	var a network.Answer
	var err error
	if len(plan.Jails) > 0 || len(plan.Reserved) > 0 || somethingIn(k.pins) {
		a, err = k.ask(&network.Request{Pins: k.pins, Lock: k.lock, Plan: plan})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(plan.Jails) == 0 {
		jails = nil // most hosts: nothing is remembered
	}
	k.jails, k.reserved, k.resolvers, k.err, k.ids, k.values = jails, reserved, resolvers, err, map[string]uint16{}, nil
	if err != nil {
		return err
	}
	k.refused, k.unsettled, k.values = a.Refused, a.Unsettled, values
	for i := range jails {
		if id := jails[i].Network.ID; id != 0 {
			k.ids[jails[i].Name] = id
		}
	}
	return nil
}

func ownsLoopback(j jail.Spec) bool { return j.Network.OwnLoopback }

func somethingIn(dir string) bool {
	entries, err := os.ReadDir(dir)
	return len(entries) > 0 || err != nil && !errors.Is(err, os.ErrNotExist)
}

// stale reports whether Again would change something: a jail has ended whose network was
// still there, or the host's name servers are others.
func (k *Keeper) stale() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unsettled {
		return true
	}
	if !slices.ContainsFunc(k.jails, ownsLoopback) {
		return false
	}
	text, _ := os.ReadFile(k.resolvConf)
	return !slices.Equal(network.Resolvers(text), k.resolvers)
}

// Settle does Again as long as that would change something: at once, and, since a process on the
// host with a login's uid may be there longer than the jail, which nobody hears of, again and
// again, at last each minute. It returns when nothing is left, or somebody else is at it.
func (k *Keeper) Settle() error {
	if !k.stale() {
		return nil
	}
	if err := k.Again(); err != nil || !k.settling.TryLock() {
		return err
	}
	defer k.settling.Unlock()
	for pause := k.pause; k.stale(); pause = min(2*pause, time.Minute) {
		time.Sleep(pause)
		if !k.stale() {
			break
		}
		if err := k.Again(); err != nil {
			return err
		}
	}
	return nil
}

var errNotLoaded = errors.New("it is not loaded yet; jail reload")

// Refused says why a jail must not start: what of the network is to be its own would not
// be. It is nil for jails without such keys.
func (k *Keeper) Refused(spec *jail.Spec) error {
	if !spec.Network.Owned() {
		return nil
	}
	k.mu.Lock()
	err, why, id := k.err, k.refused[spec.Name], k.ids[spec.Name]
	k.mu.Unlock()
	switch {
	case err != nil:
	case why != "":
		err = errors.New(why)
	case id == 0 || id != spec.Network.ID:
		err = errNotLoaded
	default:
		_, err = intact(k.pins)
	}
	if err != nil {
		return notItsOwn(err)
	}
	return nil
}

func notItsOwn(err error) error {
	return fmt.Errorf("its network (ports, loopback, network) cannot be its own: %w", err)
}

// Enter has the kernel know a jail with the host's ids by its cgroup, see cgroup.Marks. One
// without keys about the network starts also where that cannot be: what is somebody else's may
// not be kept from it then.
func (k *Keeper) Enter(spec *jail.Spec, id uint64, why string) error {
	k.applying.Lock() // jail-net does not see what comes while it looks
	defer k.applying.Unlock()
	k.mu.Lock()
	value, known := k.values[spec.Name]
	k.mu.Unlock()
	err := func() error {
		switch {
		case id == 0:
			return fmt.Errorf("with userns = false it is known by its cgroup, and has none: %s", why)
		case !known || network.IDOf(value) != spec.Network.ID:
			return errNotLoaded
		}
		return k.inMap(func(fd int) error {
			key := network.CgroupKey(id)
			return sys.SetInMap(fd, key[:], value[:])
		})
	}()
	if err != nil && spec.Network.Owned() {
		return notItsOwn(err)
	}
	return nil
}

// Left has the kernel forget a cgroup that is gone, some time: no other has its number. What
// comes to nothing here jail-net does the next time.
func (k *Keeper) Left(id uint64) {
	k.mu.Lock()
	none := len(k.values) == 0
	k.mu.Unlock()
	if none {
		return
	}
	go func() { // who tells waits for nobody
		_ = k.inMap(func(fd int) error {
			key := network.CgroupKey(id)
			return sys.DeleteFromMap(fd, key[:])
		})
	}()
}

// inMap does something with the map of cgroups, while no jail-net does.
func (k *Keeper) inMap(f func(fd int) error) error {
	dir, err := intact(k.pins)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(k.lock, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", k.lock, err)
	}
	path := filepath.Join(dir, network.CgroupMap)
	fd, err := sys.OpenPinned(path)
	if err != nil {
		return fmt.Errorf("%s: %w; jail reload loads it again", path, err)
	}
	defer sys.Close(fd)
	if err := f(fd); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// intact returns the directory of the generation that is in force, if all links are pinned
// where jail-net has put them: without them jails would have the host's network as it is.
func intact(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("%w; jail reload loads it again", err)
	}
	for _, e := range entries {
		layout, _, _ := strings.Cut(e.Name(), "-")
		if n, err := strconv.Atoi(layout); err != nil || n != network.Layout {
			continue
		}
		links, err := filepath.Glob(filepath.Join(dir, e.Name(), network.LinkPrefix+"*"))
		if err == nil && len(links) == network.Programs {
			return filepath.Join(dir, e.Name()), nil
		}
	}
	return "", fmt.Errorf("%s: programs are missing there; jail reload loads them again", dir)
}

// askProgram runs jail-net.
func askProgram(q *network.Request) (network.Answer, error) {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return network.Answer{}, err
	}
	program, ok := launch.NetworkProgram(own)
	if !ok {
		return network.Answer{}, fmt.Errorf("%s: the program that loads it is missing; install it as make install does", program)
	}
	in, err := json.Marshal(q)
	if err != nil {
		return network.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = bytes.NewReader(in), &out, &said, "/", []string{}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(said.String(), "\n")
		return network.Answer{}, fmt.Errorf("jail-net: %w: %s", err, first)
	}
	var a network.Answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return network.Answer{}, fmt.Errorf("jail-net: %w", err)
	}
	if a.Error != "" {
		return network.Answer{}, errors.New(a.Error)
	}
	return a, nil
}
