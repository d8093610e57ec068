package source

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"jail/internal/rootpath"
	"jail/internal/sys"
)

// directory is a root directory on the host's disk.
type directory struct {
	path string
	attr uint64 // of mount_setattr(2)
}

func (d directory) String() string { return d.path }

func (d directory) Places() []string { return []string{d.path} }

func (d directory) HostFiles() string { return "" }

func (d directory) Landmark() Landmark { return Landmark{Path: d.path, At: "/"} }

func (d directory) Open(touch func(string)) (*Opened, error) {
	touch(d.path)
	tree, err := Clone(d.path, d.attr, true)
	if err != nil {
		return nil, err
	}
	return &Opened{Root: Tree{FD: tree, Name: d.path}, Exclusive: tree, Bounded: tree}, nil
}

func (d directory) Name() (*Named, error) {
	fd, err := sys.Openat2(sys.AtFDCWD, d.path, sys.OPath|syscall.O_DIRECTORY, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d.path, err)
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", d.path, err)
	}
	return &Named{Path: d.path, Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

func (d directory) View() (*rootpath.Tree, error) {
	root, err := rootpath.OpenDir(d.path, unix.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	return &rootpath.Tree{Root: root}, nil
}
