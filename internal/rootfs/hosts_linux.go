package rootfs

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
)

// Hosts is the file in which the jail's own name is looked up (hosts(5)), and OwnHosts
// is where the rootfs's own is while another is shown in its place.
const (
	Hosts    = "/etc/hosts"
	OwnHosts = "/dev/jail/hosts"
)

// hostsHead stands above what is shown.
const hostsHead = "# The root file system's own " + Hosts + " with a line for this host, which it lacks.\n" +
	"# To change it, edit " + OwnHosts + ", which is that file. From the jail's next start on\n" +
	"# it is what is here, if it names this host, or any but localhost.\n"

// showHosts makes the jail's own name one that can be looked up, where the rootfs does
// not: sudo(8) and hostname(1) do so, and ask the host's name servers otherwise. The
// rootfs is not written to. A file that names any host but localhost is kept by somebody,
// who wants to go on writing to it; it is left alone, as is one that is not a regular
// file of the rootfs itself.
func (b *builder) showHosts() {
	text, target, err := b.readHosts()
	if target >= 0 {
		defer sys.Close(target)
	}
	why := ""
	switch {
	case err == syscall.EFBIG:
		return // somebody keeps it
	case err == syscall.ENOENT:
		why = "is missing"
	case err == syscall.EXDEV, err == syscall.EINVAL:
		why = "is not a regular file of it"
	case err != nil:
		why = "cannot be used: " + err.Error()
	default:
		switch environ.Hosts(text, b.s.Hostname) {
		case environ.HostsNamed:
			return
		case environ.HostsKept:
			why = "does not have it"
		default:
			if err := b.coverHosts(text, target); err != nil {
				b.note("cannot show the jail's own name in " + Hosts + ": " + err.Error())
			}
			return
		}
	}
	b.note("nothing inside knows the jail's own name, " + b.s.Hostname + ": " + Hosts + " of the rootfs " + why +
		"; add it (jail exec " + b.s.Name + " sh -c 'echo 127.0.1.1 " + b.s.Hostname + " >>" + Hosts + "'), or set hosts = \"rootfs\"")
}

// readHosts returns the rootfs's file, and a descriptor of the same. A link is followed,
// but neither out of the rootfs nor into another file system; nothing is opened that can
// hold the start up.
func (b *builder) readHosts() (text []byte, target int, err error) {
	const inside = sys.ResolveInRoot | sys.ResolveNoMagiclinks | sys.ResolveNoXdev
	target, err = sys.Openat2(b.top, Hosts, sys.OPath, inside)
	if err != nil {
		return nil, -1, err
	}
	var st, again syscall.Stat_t
	if err = syscall.Fstat(target, &st); err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		err = syscall.EINVAL
	}
	if err == nil && st.Size > environ.MaxHosts {
		err = syscall.EFBIG
	}
	if err != nil {
		return nil, target, err
	}
	fd, err := sys.Openat2(b.top, Hosts, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, inside)
	if err != nil {
		return nil, target, err
	}
	defer sys.Close(fd)
	if err = syscall.Fstat(fd, &again); err == nil && (again.Dev != st.Dev || again.Ino != st.Ino) {
		err = syscall.EAGAIN
	}
	if err != nil || st.Size == 0 {
		return nil, target, err
	}
	text = make([]byte, st.Size)
	n, err := sys.Read(fd, text)
	return text[:max(n, 0)], target, err
}

// coverHosts shows text and the line over the rootfs's file at target, read-only, and that
// file at OwnHosts. What is shown is a file of /dev beneath the latter, where nobody gets
// at it.
func (b *builder) coverHosts(text []byte, target int) error {
	own, err := sys.OpenTree(target, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return err
	}
	defer sys.Close(own)
	dir, base, err := b.in(OwnHosts)
	if err != nil {
		return err
	}
	defer sys.Close(dir)
	file, err := sys.Openat2Mode(dir, base, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|syscall.O_NOFOLLOW, 0o644, beneath)
	if err != nil {
		return err
	}
	defer sys.Close(file)
	text = environ.AppendHosts([]byte(hostsHead), text, b.s.Hostname)
	n, err := sys.Write(file, text)
	if err == nil && n < len(text) {
		err = syscall.ENOSPC
	}
	if err == nil {
		err = syscall.Fchmod(file, 0o644) // past any umask
	}
	if err != nil {
		return err
	}
	shown, err := sys.OpenTree(file, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return err
	}
	defer sys.Close(shown)
	attr := uint64(sys.MountAttrRdonly | sys.MountAttrNosuid | sys.MountAttrNodev | sys.MountAttrNoexec)
	if err := sys.MountSetattr(shown, attr, -1, false); err != nil {
		return err
	}
	// First the rootfs's own to where it can be written: with it alone the jail is as
	// it would be without any of this.
	if err := sys.MoveMount(own, file); err != nil {
		return err
	}
	return sys.MoveMount(shown, target)
}
