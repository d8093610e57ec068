package launch

import (
	"fmt"
	"syscall"
	"time"

	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

// prepared is the first step of a start: all that a jail needs of the host's file
// systems, opened.
type prepared struct {
	spec *jail.Spec
	set  *wire.Setup
	// fds has what travels to PID 1 and is ours to close; the control socket and those
	// of the logins are the caller's, and come last.
	fds *wire.Descriptors
	// warning is what is odd about them, "" if nothing.
	warning string
}

func (p *prepared) close() {
	for _, fd := range append([]int{p.fds.Rootfs, p.fds.SFTP, p.fds.Resolver, p.fds.Lock}, p.fds.Mounts...) {
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
	if l.rootless {
		a.touch(spec.Rootfs)
		if err := checkRootfs(spec, set); err != nil {
			return nil, err
		}
	} else {
		if err := openTrees(p, a); err != nil {
			return nil, err
		}
		a.touch(spec.Rootfs)
		if err := l.lockRootfs(p); err != nil {
			return nil, err
		}
	}
	if set.Resolver == wire.ResolverTree {
		a.touch(l.resolverPath)
		if p.fds.Resolver, err = l.resolverTree(); err != nil {
			return nil, err
		}
	}
	a.touch(l.sftp)
	l.openSFTP(p)
	return p, nil
}

// setup turns a Spec into the message for PID 1.
func (l *Launcher) setup(spec *jail.Spec) *wire.Setup {
	s := &wire.Setup{
		Name: spec.Name, Hostname: spec.Hostname,
		Userns: spec.Userns.Enabled, ContainerRoot: spec.ContainerRoot,
		Landlock: l.landlockOK, IdleMillis: uint64(spec.IdleTimeout.Milliseconds()),
		PtyMax: ptyMax, HardFiles: l.hardFiles, Env: spec.Env,
		SFTP: uint8(spec.SFTP), Keys: spec.Keys,
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

// openTrees clones the rootfs and the sources of the mounts. A source is opened
// once, without following a link anywhere in its path, and mounted by that
// descriptor (CVE-2021-30465, CVE-2021-25741).
func openTrees(p *prepared, a *attempt) error {
	spec := p.spec
	attr := uint64(sys.MountAttrNodev)
	if !spec.Userns.Enabled && !spec.ContainerRoot {
		attr |= sys.MountAttrNosuid
	}
	a.touch(spec.Rootfs)
	var err error
	if p.fds.Rootfs, err = openTree(spec.Rootfs, attr, true); err != nil {
		return err
	}
	for i, m := range spec.Mounts {
		attr := uint64(sys.MountAttrNodev | sys.MountAttrNosuid | sys.MountAttrNosymfollow)
		if m.ReadOnly {
			attr |= sys.MountAttrRdonly
		}
		a.touch(m.Source)
		if p.fds.Mounts[i], err = openTree(m.Source, attr, false); err != nil {
			return err
		}
	}
	return nil
}

func openTree(path string, attr uint64, dirOnly bool) (int, error) {
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

// checkRootfs is for a launcher without privilege, whose child has to open the
// rootfs itself: it notes which directory that must be.
func checkRootfs(spec *jail.Spec, s *wire.Setup) error {
	fd, err := sys.Openat2(sys.AtFDCWD, spec.Rootfs, sys.OPath|syscall.O_DIRECTORY, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err != nil {
		return fmt.Errorf("open %s: %w", spec.Rootfs, err)
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", spec.Rootfs, err)
	}
	s.Rootfs, s.Dev, s.Ino = spec.Rootfs, uint64(st.Dev), st.Ino
	return nil
}
