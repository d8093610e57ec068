package launch

import (
	"jail/internal/rootfs"
	"jail/internal/wire"
)

// sftpServer returns the path of the built-in sftp server that belongs to the
// jail-init at exe, and whether it is there.
func sftpServer(exe string) (path string, ok bool) {
	return companion(exe, "sftp-server", "jail-sftp-server")
}

// openSFTP adds the built-in sftp server to the set-up, if the jail may need it
// and it is there. A jail starts without it too; then a login that asks for it is
// told why it gets none.
func (l *Launcher) openSFTP(p *prepared) {
	if l.sftp == "" || !p.spec.SFTP.Builtin() {
		return
	}
	if l.rootless {
		if isProgram(l.sftp) {
			p.set.SFTPServer, p.set.SFTPPath = wire.SFTPServerPath, l.sftp
		}
		return
	}
	if tree, err := rootfs.OwnFile(l.sftp); err == nil {
		p.set.SFTPServer, p.fds.SFTP = wire.SFTPServerTree, tree
	}
}
