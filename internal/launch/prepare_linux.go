package launch

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"jail/internal/jail"
	"jail/internal/quota"
	"jail/internal/rootfs"
	"jail/internal/source"
	"jail/internal/sys"
	"jail/internal/wire"
)

// prepared is the first step of a start: all that a jail needs of the host's file
// systems, opened.
type prepared struct {
	spec *jail.Spec
	set  *wire.Setup
	// trees are the mounts whose ids the kernel has to show as the jail's, once there
	// are such.
	trees []source.Tree
	// exclusive is the descriptor of the directory that no two jails may have, one of
	// those in trees.
	exclusive int
	// fds has what travels to PID 1 and is ours to close; the control socket and those
	// of the logins are the caller's, and come last.
	fds *wire.Descriptors
	// warning is what is odd about them, "" if nothing.
	warning string
}

func (p *prepared) warn(text string) {
	if p.warning != "" {
		p.warning += "; "
	}
	p.warning += text
}

func (p *prepared) close() {
	for _, fd := range append([]int{p.fds.Rootfs, p.fds.SFTP, p.fds.Resolver, p.fds.Lock, p.fds.Devices, p.fds.Memory}, p.fds.Mounts...) {
		if fd >= 0 {
			sys.Close(fd)
		}
	}
}

// prepareBy is prepare with a deadline. A file system that does not answer holds a
// system call for ever, and no signal ends that: its thread is then left alone, and
// what it still opens it closes again. The attempt is not over before that.
func (l *Launcher) prepareBy(deadline time.Time, spec *jail.Spec, a *attempt) (*prepared, error) {
	type outcome struct {
		p   *prepared
		err error
	}
	done, givenUp := make(chan outcome), make(chan struct{})
	go func() {
		p, err := l.prepare(spec, a)
		select {
		case done <- outcome{p, err}:
		case <-givenUp:
			if err == nil {
				p.close()
			}
			l.leave(a)
		}
	}()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case o := <-done:
		return o.p, o.err
	case <-timer.C:
		err := fmt.Errorf("%s: its file system does not answer", a.stopped())
		l.linger(a)
		close(givenUp)
		return nil, err
	}
}

// prepare opens and clones what the jail is made of. a says how far it is.
func (l *Launcher) prepare(spec *jail.Spec, a *attempt) (_ *prepared, err error) {
	if l.rootless && spec.Userns.Size <= 1 && l.ids.Enabled {
		with := *spec
		with.Userns = l.ids
		spec = &with
	}
	set := l.setup(spec)
	p := &prepared{spec: spec, set: set, fds: set.NoDescriptors()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	src := source.Of(spec)
	if l.rootless {
		a.touch(src.String())
		root, err := src.Name()
		if err != nil {
			return nil, err
		}
		set.Rootfs, set.Dev, set.Ino = root.Path, root.Dev, root.Ino
	} else {
		opened, err := p.openTrees(src, a.touch)
		if err != nil {
			return nil, err
		}
		defer opened.CloseBounded()
		a.touch(src.String())
		if err := l.lockRootfs(p); err != nil {
			return nil, err
		}
		limits := quota.Limit{Bytes: spec.Limits.DiskBytes, Files: spec.Limits.Files}
		if opened.Layers != nil || limits == (quota.Limit{}) {
			// What a start writes itself counts, but is not held to a limit, of now or of
			// before: xfs would refuse it to root, too, and with it the start of a jail
			// that is full.
			if err := quota.Bound(opened.Bounded, quota.Limit{}); err != nil {
				return nil, fmt.Errorf("%s: %w", src, err)
			}
		}
		if opened.Layers != nil {
			if err := p.layRoot(opened.Layers); err != nil {
				return nil, err
			}
		}
		if limits != (quota.Limit{}) {
			a.touch("the files of " + src.String() + ", which are being counted for its quota (the next start goes on with that)")
			if err := quota.Bound(opened.Bounded, limits); err != nil {
				return nil, fmt.Errorf("%s: %w", src, err)
			}
		}
	}
	if set.Resolver == wire.ResolverTree {
		a.touch(l.resolverPath)
		if p.fds.Resolver, err = l.resolverTree(); err != nil {
			return nil, err
		}
	}
	if err := l.openDevices(p); err != nil {
		return nil, err
	}
	a.touch(l.sftp)
	l.openSFTP(p)
	return p, nil
}

// openDevices makes the device nodes of a jail that cannot make its own.
func (l *Launcher) openDevices(p *prepared) error {
	if l.rootless || !p.spec.Userns.Enabled {
		return nil
	}
	fd, err := rootfs.Devices(p.spec.Userns.Base, p.spec.Userns.Base)
	if err == syscall.EPERM {
		// In a container that may not make any, the host's have to do.
		p.warn("its device nodes are the host's, since none can be made here (mknod(2)): a process inside can watch them (inotify(7)), and by that slow down who uses them")
		return nil
	}
	if err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	p.fds.Devices, p.set.Devices = fd, true
	return nil
}

// setup turns a Spec into the message for PID 1.
func (l *Launcher) setup(spec *jail.Spec) *wire.Setup {
	s := &wire.Setup{
		Name: spec.Name, Hostname: spec.Hostname, Build: l.build,
		Userns: spec.Userns.Enabled, ContainerRoot: spec.ContainerRoot,
		Landlock: l.landlockOK, IdleMillis: uint64(spec.IdleTimeout.Milliseconds()),
		PtyMax: ptyMax, HardFiles: l.hardFiles, Env: spec.Env,
		SFTP: spec.SFTP, Keys: spec.Keys,
		Fresh: spec.Fresh, Sessions: spec.Sessions,
		X11: spec.X11, OnDisconnect: wire.OnDisconnect(spec.OnDisconnect),
	}
	for _, m := range spec.Mounts {
		wm := wire.Mount{Target: m.Target, ReadOnly: m.ReadOnly}
		if l.rootless {
			wm.Source = m.Source
		}
		s.Mounts = append(s.Mounts, wm)
	}
	for i := range spec.Logins[:min(len(spec.Logins), wire.SetupLogins)] {
		s.Logins = append(s.Logins, Identity(&spec.Logins[i]))
	}
	s.Locked = !l.rootless
	l.comforts(s, spec)
	return s
}

// Identity turns a Login into its form on the wire.
func Identity(lg *jail.Login) wire.Identity { return lg.Identity() }

// openTrees clones what the source is made of and the sources of the mounts.
func (p *prepared) openTrees(src source.Source, touch func(string)) (*source.Opened, error) {
	opened, err := src.Open(touch)
	if err != nil {
		return nil, err
	}
	p.set.OwnRoot, p.set.Entries = opened.Root.FD < 0 && opened.Layers == nil, opened.Entries
	p.set.Complete = opened.Complete
	p.fds.Rootfs, p.exclusive, p.trees = opened.Root.FD, opened.Exclusive, opened.Trees()
	mounts, trees := make([]wire.Mount, len(opened.Mounts)), make([]int, len(opened.Mounts))
	for i, m := range opened.Mounts {
		mounts[i], trees[i] = wire.Mount{Target: m.Target, ReadOnly: m.ReadOnly}, m.FD
	}
	p.set.Mounts, p.fds.Mounts = append(mounts, p.set.Mounts...), append(trees, p.fds.Mounts...)
	for i, m := range p.spec.Mounts {
		attr := uint64(sys.MountAttrNodev | sys.MountAttrNosuid | sys.MountAttrNosymfollow)
		if m.ReadOnly {
			attr |= sys.MountAttrRdonly
		}
		touch(m.Source)
		tree, err := source.Clone(m.Source, attr, false)
		if err != nil {
			opened.CloseBounded()
			return nil, err
		}
		p.fds.Mounts[len(trees)+i] = tree
		p.trees = append(p.trees, source.Tree{FD: tree, Name: m.Source, IDs: source.ShownIDs})
	}
	return opened, nil
}

// layRoot makes the root directory of layers. They get the ids of the jail before, from a
// user namespace that maps as the jail's will: a file system of several layers cannot be
// given any afterwards. The lock is held, so that nobody else mounts what is written to.
func (p *prepared) layRoot(open func() (*source.Layers, error)) error {
	ly, err := open()
	if err != nil {
		return err
	}
	defer ly.Close()
	made := rootfs.Layers{Base: ly.Base.FD, Upper: ly.Upper.FD, Bytes: ly.Bytes, Attr: ly.Attr}
	if p.spec.Userns.Enabled {
		uids, gids, err := mapsOf(p.spec)
		ns := -1
		if err == nil {
			made.Root, _ = hostID(uids, 0)
			ns, err = nobodys(uids, gids)
		}
		if err != nil {
			return fmt.Errorf("map ids of %s: %w", ly.Base.Name, err)
		}
		defer sys.Close(ns)
		for _, tree := range []source.Tree{ly.Base, ly.Upper} {
			if tree.FD < 0 {
				continue
			}
			if err := sys.MountSetattr(tree.FD, 0, ns, false); err == syscall.EINVAL {
				return fmt.Errorf("%s: its file system cannot be mounted with mapped ids; move it to ext4, xfs or btrfs", tree.Name)
			} else if err != nil {
				return fmt.Errorf("map ids of %s: %w", tree.Name, err)
			}
		}
	}
	p.fds.Rootfs, err = rootfs.Overlay(&made)
	switch {
	case errors.Is(err, rootfs.ErrOtherBase):
		return fmt.Errorf("what is in %s differs from another directory than %s; jail rebase %s keeps /home and begins anew with that", ly.Upper.Name, ly.Base.Name, p.spec.Name)
	case err != nil:
		return fmt.Errorf("mount %s and what differs from it: %w", ly.Base.Name, err)
	}
	return nil
}
