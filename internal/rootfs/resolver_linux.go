package rootfs

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// ResolvConf is the file over which the host's is shown (resolv.conf(5)).
const ResolvConf = "/etc/resolv.conf"

// openResolver opens the host's file where the launcher could not. A jail starts
// without it, too.
func (b *builder) openResolver() {
	if b.s.Resolver != wire.ResolverByPath {
		return
	}
	fd, err := sys.Openat2(sys.AtFDCWD, b.s.ResolverPath, sys.OPath, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err == nil {
		b.Resolver, err = sys.OpenTree(fd, "", sys.OpenTreeClone|sys.AtEmptyPath)
		sys.Close(fd)
	}
	if err == nil {
		err = sys.MountSetattr(b.Resolver, sys.MountAttrRdonly|sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec, -1, false)
	}
	if err != nil {
		b.note("the jail keeps its own " + ResolvConf + ": " + b.s.ResolverPath + ": " + err.Error())
		if b.Resolver >= 0 {
			sys.Close(b.Resolver)
			b.Resolver = -1
		}
	}
}

// showResolver puts the host's file over the rootfs's, which must be a regular
// file of the rootfs itself: a link is followed, but neither out of it nor into
// another file system. Where there is nothing to put it over, the rootfs would
// have to be written to, which is its owner's to do; the jail does without.
func (b *builder) showResolver() {
	defer sys.Close(b.Resolver)
	const fix = "; to have the host's inside, make it an empty file (jail exec " // NAME follows
	target, err := sys.Openat2(b.top, ResolvConf, sys.OPath, sys.ResolveInRoot|sys.ResolveNoMagiclinks|sys.ResolveNoXdev)
	if err == nil {
		defer sys.Close(target)
		var st syscall.Stat_t
		if err = syscall.Fstat(target, &st); err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFREG {
			err = syscall.EINVAL
		}
	}
	why := ""
	switch err {
	case nil:
		if err := sys.MoveMount(b.Resolver, target); err != nil {
			b.note("cannot show the host's " + ResolvConf + ": " + err.Error())
		}
		return
	case syscall.ENOENT:
		why = "is missing, or a link to nothing"
	case syscall.EXDEV:
		why = "leads out of the root file system"
	case syscall.EINVAL:
		why = "is not a regular file"
	default:
		why = "cannot be used: " + err.Error()
	}
	b.note(ResolvConf + " of the rootfs " + why + fix + b.s.Name + " sh -c 'rm -f " + ResolvConf + "; : >" + ResolvConf +
		"') and start the jail anew, or set resolv_conf = \"rootfs\"")
}

func (b *builder) note(text string) { b.root.Notes = append(b.root.Notes, text) }
