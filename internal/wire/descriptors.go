package wire

// Descriptors are those that travel with a Setup, by name; -1 is one that does not.
type Descriptors struct {
	Rootfs   int   // the rootfs as a detached mount; not with Setup.Rootfs or Setup.OwnRoot
	Control  int   // the listener of the control socket
	Mounts   []int // detached mounts, of Setup.Mounts without a Source, in order
	Logins   []int // the listeners of Setup.Logins, in order
	SFTP     int   // the built-in sftp server as a detached mount, with SFTPServerTree
	Resolver int   // the file to show as /etc/resolv.conf as one, with ResolverTree
	Lock     int   // with Setup.Locked, what PID 1 keeps open as long as it lives
	Devices  int   // with Setup.Devices, /dev as a detached mount
	Memory   int   // with Setup.MemoryEvents, that file
}

// NoDescriptors returns Descriptors with room for the lists of s, and nothing in them.
func (s *Setup) NoDescriptors() *Descriptors {
	d := &Descriptors{Rootfs: -1, Control: -1, SFTP: -1, Resolver: -1, Lock: -1, Devices: -1, Memory: -1}
	for _, m := range s.Mounts {
		if m.Source == "" {
			d.Mounts = append(d.Mounts, -1)
		}
	}
	for range s.Logins {
		d.Logins = append(d.Logins, -1)
	}
	return d
}

// places are the descriptors that travel with s, in the order in which they do. It is
// the one place that says so.
func (s *Setup) places(d *Descriptors) []*int {
	var p []*int
	one := func(travels bool, fd *int) {
		if travels {
			p = append(p, fd)
		}
	}
	many := func(fds []int) {
		for i := range fds {
			p = append(p, &fds[i])
		}
	}
	one(s.Rootfs == "" && !s.OwnRoot, &d.Rootfs)
	one(true, &d.Control)
	many(d.Mounts)
	many(d.Logins)
	one(s.SFTPServer == SFTPServerTree, &d.SFTP)
	one(s.Resolver == ResolverTree, &d.Resolver)
	one(s.Locked, &d.Lock)
	one(s.Devices, &d.Devices)
	one(s.MemoryEvents, &d.Memory)
	return p
}

// List returns the descriptors of d in the order in which they travel with s. It fails
// with ErrMalformed if one is missing.
func (s *Setup) List(d *Descriptors) ([]int, error) {
	if want := s.NoDescriptors(); len(want.Mounts) != len(d.Mounts) || len(want.Logins) != len(d.Logins) {
		return nil, ErrMalformed
	}
	var fds []int
	for _, p := range s.places(d) {
		if *p < 0 {
			return nil, ErrMalformed
		}
		fds = append(fds, *p)
	}
	return fds, nil
}

// Assign gives the descriptors that came with s their names. It fails with
// ErrMalformed if there are more or fewer than s says.
func (s *Setup) Assign(fds []int) (*Descriptors, error) {
	d := s.NoDescriptors()
	places := s.places(d)
	if len(places) != len(fds) {
		return nil, ErrMalformed
	}
	for i, p := range places {
		*p = fds[i]
	}
	return d, nil
}
