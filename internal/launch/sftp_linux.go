package launch

import (
	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/wire"
)

// SFTPServer returns the path of the built-in sftp server that belongs to the
// jail-init at exe, and whether it is there.
func SFTPServer(exe string) (path string, ok bool) {
	return companion(exe, "sftp-server", "jail-sftp-server")
}

// openSFTP adds the built-in sftp server to the set-up, if the jail may need it
// and it is there. It returns the clone that has to travel, or -1. A jail starts
// without it too; then a login that asks for it is told why it gets none.
func (l *Launcher) openSFTP(spec *jail.Spec, set *wire.Setup, keep func(int) int) int {
	if l.sftp == "" || !spec.SFTP.Builtin() {
		return -1
	}
	if l.rootless {
		if isProgram(l.sftp) {
			set.SFTPServer, set.SFTPPath = wire.SFTPServerPath, l.sftp
		}
		return -1
	}
	tree, err := rootfs.OwnFile(l.sftp)
	if err != nil {
		return -1
	}
	set.SFTPServer = wire.SFTPServerTree
	return keep(tree)
}
