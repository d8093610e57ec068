package audit

import (
	"syscall"

	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/source"
	"jail/internal/sys"
)

// checkResolver looks whether the host's resolv.conf can be shown in a jail: only
// over a file of the rootfs itself, which nobody but its owner makes.
func (a *auditor) checkResolver(j *jail.Spec) {
	if j.OwnResolver {
		return
	}
	view, err := source.Of(j).View()
	if err != nil {
		return // package config says so
	}
	defer view.Close()
	what := ""
	fd, err := sys.Openat2(view.Root, rootfs.ResolvConf, sys.OPath, sys.ResolveInRoot|sys.ResolveNoMagiclinks|sys.ResolveNoXdev)
	if err == nil {
		defer sys.Close(fd)
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG {
			return
		}
		what = "is not a regular file"
	} else if err == syscall.ENOENT && source.Completed(j) {
		return // PID 1 makes it
	} else if err == syscall.ENOENT {
		what = "is missing, or a link to nothing"
	} else {
		what = "cannot be used (" + err.Error() + ")"
	}
	a.addJail(j, Note, "resolv-conf", "jail "+JailName+", "+rootfs.ResolvConf, what+" in the rootfs, so the host's cannot be shown over it and names may not be found inside",
		"jail exec "+JailName+" sh -c 'rm -f "+rootfs.ResolvConf+"; : >"+rootfs.ResolvConf+"'; jail stop "+JailName)
}
