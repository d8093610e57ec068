// Package source knows where the root of a jail comes from. Source is the one interface
// to that: what is opened for a start, what no two jails may have, how a running jail is
// found, what the host reads of a jail, and which paths the registry has to look at. Of
// makes one of a jail's entry; nothing above this package knows which kind it is.
//
// Whatever is below the paths of a source may be a tenant's to change at any moment, or
// on a file system that does not answer. Open, Name and View touch them, so they are
// called with a deadline, and never on the loop of a supervisor; the others look at
// nothing.
package source

import (
	"fmt"
	"syscall"

	"jail/internal/jail"
	"jail/internal/rootpath"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Source is where the root of one jail comes from.
type Source interface {
	// String is what messages and lists call it.
	String() string
	// Places are the directories of the host that are this jail's alone: no other jail's
	// place and no source of a mount is one of them, lies in one, or contains one.
	Places() []string
	// HostFiles is the directory in which package hostfiles has to keep what is seen of
	// the host's own files, before the first start; "" if nothing is.
	HostFiles() string
	// Landmark is by what a jail that runs on it is found.
	Landmark() Landmark
	// Open clones what a jail is made of, for a launcher with privilege. It calls touch
	// with each path before it touches that.
	Open(touch func(path string)) (*Opened, error)
	// Name finds out which directory PID 1 has to clone itself, for a launcher
	// without privilege.
	Name() (*Named, error)
	// View opens the root directory as the host sees it, to read files of it: accounts,
	// keys, settings. What the registry mounts is not in it.
	View() (*rootpath.Tree, error)
}

// Landmark is a mount that only a jail of this source has: the directory that has the
// path Path on the host is seen at the path At inside, from the jail's start to its end.
type Landmark struct{ Path, At string }

// Opened is a source that has been opened for one start.
type Opened struct {
	// Root is the root directory. Without one, which its descriptor -1 says, and without
	// Layers PID 1 makes a root of its own with Entries in it.
	Root    Tree
	Entries []wire.Entry
	// Mounts are made in it, in this order, before those of the registry.
	Mounts []Mount
	// Exclusive is the descriptor of one of these trees: of the directory that no two
	// jails may have at a time. Its device and inode are the name of the lock.
	Exclusive int
	// Bounded is the descriptor of the directory that limits on files bound: all that the
	// jail writes and that outlives it is in there. It is Exclusive, or nobody else's.
	Bounded int
	// Layers, if it is not nil, opens what the launcher makes the root directory of. It
	// may be called as soon as the lock is held.
	Layers func() (*Layers, error)
	// Complete says that PID 1 makes what the root lacks: accounts of the logins, their
	// homes, and files to show the host's over.
	Complete bool
}

// Layers are what a root is made of that shows a directory, and what differs from it.
type Layers struct {
	// Base is what others may have, too: nobody writes to it.
	Base Tree
	// Upper has the directories "upper" and "work" of an overlay in it. Without one, which
	// its descriptor -1 says, what differs is kept in memory, Bytes of it at most.
	Upper Tree
	Bytes uint64
	Attr  uint64 // of the root, as of mount_setattr(2)
}

// Close closes the trees.
func (ly *Layers) Close() {
	for _, fd := range []int{ly.Base.FD, ly.Upper.FD} {
		if fd >= 0 {
			sys.Close(fd)
		}
	}
}

// Close closes the trees.
func (o *Opened) Close() {
	for _, t := range o.Trees() {
		sys.Close(t.FD)
	}
	o.CloseBounded()
}

// CloseBounded closes Bounded, if that is none of the trees.
func (o *Opened) CloseBounded() {
	if o.Bounded >= 0 && o.Bounded != o.Exclusive {
		sys.Close(o.Bounded)
	}
	o.Bounded = -1
}

// Trees are all there are, the root first, if there is one.
func (o *Opened) Trees() []Tree {
	var trees []Tree
	if o.Root.FD >= 0 {
		trees = append(trees, o.Root)
	}
	for _, m := range o.Mounts {
		trees = append(trees, m.Tree)
	}
	return trees
}

// Tree is a mount that is attached nowhere.
type Tree struct {
	FD   int
	Name string // what messages call it, a path of the host
	IDs  IDs
	// UID and GID are the one id of each kind that is mapped, with OneID.
	UID, GID uint32
}

// IDs says whose a tree is inside, where ids are mapped at all.
type IDs uint8

// The values of IDs.
const (
	// AllIDs: id N on the disk is id N inside.
	AllIDs IDs = iota
	// OneID is that for one uid and gid. All others are nobody's inside, and nobody else
	// can make anything there (EOVERFLOW): uid 0 inside neither reads what is not the
	// one's, nor leaves a set-uid program of the host's root on the disk.
	OneID
	// ShownIDs is AllIDs of a mount that is not of the root: where the login keeps its ids
	// it may be on a file system that cannot be mounted with mapped ids, and so may one
	// with OneID.
	ShownIDs
	// AllOrNoIDs is AllIDs on a file system that can be mounted with mapped ids, and NoIDs
	// on others, as tmpfs before Linux 6.3.
	AllOrNoIDs
	// NoIDs: all are nobody's inside. Everybody there has the rights of others, and no
	// more, whatever uid he has.
	NoIDs
)

// Mount is a tree and where it is to be inside.
type Mount struct {
	Tree
	Target   string // absolute and clean
	ReadOnly bool
}

// Named is a directory that another process has to open: by its path, if what it finds
// there is the same.
type Named struct {
	Path     string
	Dev, Ino uint64
}

// Of returns the source of a jail.
func Of(spec *jail.Spec) Source {
	attr := uint64(sys.MountAttrNodev)
	if !spec.Userns.Enabled && !spec.ContainerRoot {
		attr |= sys.MountAttrNosuid
	}
	switch spec.Source.Kind {
	case jail.Host:
		return &host{spec.Source, spec}
	case jail.Based:
		return &based{spec.Source, spec.Name, attr, spec.Userns.Enabled, spec.Limits.DiskBytes > 0 || spec.Limits.Files > 0}
	}
	return directory{path: spec.Source.Path, attr: attr}
}

// Completed reports whether PID 1 makes what the root of a jail lacks (Opened.Complete).
func Completed(spec *jail.Spec) bool {
	_, shared := Of(spec).(*based)
	return shared
}

// Clone clones the mount of a directory of the host, or of a regular file unless dirOnly,
// with attr of mount_setattr(2). The path is opened once, without following a link
// anywhere in it, and mounted by that descriptor (CVE-2021-30465, CVE-2021-25741).
func Clone(path string, attr uint64, dirOnly bool) (int, error) {
	flags := sys.OPath
	if dirOnly {
		flags |= syscall.O_DIRECTORY
	}
	fd, err := sys.Openat2(sys.AtFDCWD, path, flags, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err == syscall.ELOOP {
		return -1, fmt.Errorf("%s: a symbolic link is on the way; name the real path in the registry", path)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return -1, fmt.Errorf("stat %s: %w", path, err)
	}
	if t := st.Mode & syscall.S_IFMT; t != syscall.S_IFDIR && t != syscall.S_IFREG {
		return -1, fmt.Errorf("%s: is neither a directory nor a regular file", path)
	}
	tree, err := sys.OpenTree(fd, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return -1, fmt.Errorf("clone %s: %w", path, err)
	}
	if err := sys.MountSetattr(tree, attr, -1, false); err != nil {
		sys.Close(tree)
		return -1, fmt.Errorf("set mount attributes of %s: %w", path, err)
	}
	return tree, nil
}
