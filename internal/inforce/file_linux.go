package inforce

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strconv"

	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/rootpath"
	"jail/internal/sys"
)

const (
	// name is the file of serve, below the runtime directory.
	name = "registry"
	// singles is the directory of the files of run: one for each login, with its name.
	singles = "registry.d"
)

// StateDir is where the registry in force of the machine is kept as well, for its next
// start: a mistake in a file is then the end of no jail either.
const StateDir = "/var/lib/jail"

// keepsState reports whether a runtime directory is that of the machine.
func keepsState(runtimeDir string) bool {
	return filepath.Clean(runtimeDir) == config.DefaultRuntimeDir && os.Geteuid() == 0
}

// Publish makes reg, whose main file is path, the registry in force of a runtime
// directory that is ours. What was there of single jails is no more.
func Publish(runtimeDir, path string, reg *config.Registry) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := write(runtimeDir, name, compile(path, reg), false); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(runtimeDir, singles))
}

// Keep keeps reg in StateDir, if the runtime directory is the machine's.
func Keep(runtimeDir, path string, reg *config.Registry) error {
	if !keepsState(runtimeDir) {
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := rootpath.MakePublic(StateDir); err != nil { // the homes of logins without one are below it
		return err
	}
	return write(StateDir, name, compile(path, reg), true)
}

// Last returns the registry, whose main file is path, that is in force, or was before
// the machine was started anew. The error is ErrNone if there is none.
func Last(runtimeDir, path string) (*config.Registry, error) {
	f, err := Open(runtimeDir, path)
	if errors.Is(err, ErrNone) && keepsState(runtimeDir) {
		f, err = Open(StateDir, path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Registry()
}

// PublishJail makes one jail the one in force for its logins, beside a Publish of the
// whole. remove takes it back.
func PublishJail(runtimeDir, path string, spec *jail.Spec) (remove func(), err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(runtimeDir, singles)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	var made []string
	remove = func() {
		for _, p := range made {
			_ = os.Remove(p)
		}
		_ = os.Remove(dir)
	}
	for _, l := range spec.Logins {
		one := *spec
		one.Logins = []jail.Login{l}
		if err := write(dir, l.Name, compile(path, &config.Registry{Jails: []jail.Spec{one}}), false); err != nil {
			remove()
			return nil, err
		}
		made = append(made, filepath.Join(dir, l.Name))
	}
	return remove, nil
}

// Kept reports whether run keeps the jail of a login (PublishJail).
func Kept(runtimeDir, login string) bool {
	_, err := os.Lstat(filepath.Join(runtimeDir, singles, login))
	return err == nil
}

// write puts text at name in a directory of ours, at once; with lasting also for a
// machine that loses its power.
func write(dir, name string, text []byte, lasting bool) error {
	// Several may be at it: run of one jail each. What one has left that was killed goes.
	begin := filepath.Join(dir, "."+name+".")
	left, _ := filepath.Glob(begin + "*")
	for _, p := range left {
		if pid, err := strconv.Atoi(p[len(begin):]); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.Remove(p)
		}
	}
	tmp := begin + strconv.Itoa(os.Getpid())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && lasting {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// Open opens the registry in force of a runtime directory, if it is one whose main
// file is path. The error is ErrNone where the registry itself has to be read; any
// other is of a file that should not be as it is, and nothing is known then.
func Open(runtimeDir, path string) (*File, error) {
	return openNamed(runtimeDir, name, path)
}

// OpenLogin is Open for somebody who looks for one login only, which may be of a jail
// that run keeps. Looked up by name, no other is found in the file.
func OpenLogin(runtimeDir, path, login string) (*File, error) {
	if jail.ValidName(login) {
		f, err := openNamed(filepath.Join(runtimeDir, singles), login, path)
		if err == nil || !errors.Is(err, ErrNone) {
			return f, err
		}
	}
	return Open(runtimeDir, path)
}

func openNamed(dir, name, path string) (*File, error) {
	full := filepath.Join(dir, name)
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dirFD, err := sys.Openat2(sys.AtFDCWD, dir, sys.OPath|unix.O_DIRECTORY, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, wrap(full, err)
	}
	defer unix.Close(dirFD)
	fd, err := unix.Openat(dirFD, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, wrap(full, err)
	}
	file := os.NewFile(uintptr(fd), full)
	f, err := trusted(dirFD, file)
	if err == nil && f.sum.Path != path {
		err = ErrNone
	}
	if err != nil {
		file.Close()
		return nil, wrap(full, err)
	}
	return f, nil
}

// trusted opens the file if nobody but root, or the caller whose runtime directory it
// is, can have written it, or put it there.
func trusted(dirFD int, file *os.File) (*File, error) {
	var dir, st unix.Stat_t
	if err := unix.Fstat(dirFD, &dir); err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, err
	}
	euid := uint32(os.Geteuid())
	for _, s := range []*unix.Stat_t{&dir, &st} {
		if s.Uid != 0 && s.Uid != euid {
			return nil, fmt.Errorf("it, or the directory it is in, belongs to uid %d; remove it", s.Uid)
		}
		if s.Mode&0o022 != 0 {
			return nil, errors.New("it, or the directory it is in, is writable by others; remove it")
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return nil, errors.New("is no regular file of one name; remove it")
	}
	return newFile(file, st.Size, file.Close)
}

// Load reads and judges the registry at path as a serve that comes or reloads now
// does: with what is in force until now in view.
func Load(path string, opt config.Options) (*config.Registry, error) {
	dir := opt.RuntimeDir
	if dir == "" {
		dir = config.DefaultRuntimeDir
	}
	before, err := Last(dir, path)
	opt.Before = before
	if err != nil && !errors.Is(err, ErrNone) {
		reg, loadErr := config.Load(path, opt)
		reg.Warnings = append(reg.Warnings, config.Error{File: filepath.Join(dir, name),
			Msg: fmt.Sprintf("what was in force until now is not known: %v", err)})
		sort.SliceStable(reg.Warnings, func(i, j int) bool { return reg.Warnings[i].File < reg.Warnings[j].File })
		return reg, loadErr
	}
	reg, err := config.Load(path, opt)
	if len(reg.Jails) > large {
		debug.FreeOSMemory() // reading took ten times what is kept
	}
	return reg, err
}

// large is the number of jails from which on giving memory back is worth its time.
const large = 500
