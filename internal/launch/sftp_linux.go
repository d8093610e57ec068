package launch

import (
	"os"
	"path/filepath"

	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/wire"
)

// SFTPServer returns the path of the built-in sftp server that belongs to the
// jail-init at exe, and whether it is there: PREFIX/lib/jail/sftp-server for
// PREFIX/sbin/jail-init, as make install has it; or jail-sftp-server beside
// jail-init, as make has it.
func SFTPServer(exe string) (path string, ok bool) {
	dir := filepath.Dir(exe)
	installed := ""
	if base := filepath.Base(dir); base == "sbin" || base == "bin" {
		installed = filepath.Join(filepath.Dir(dir), "lib/jail/sftp-server")
		if isProgram(installed) {
			return installed, true
		}
	}
	beside := filepath.Join(dir, "jail-sftp-server")
	if isProgram(beside) {
		return beside, true
	}
	if installed != "" {
		return installed, false
	}
	return beside, false
}

func isProgram(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 == 0o111
}

// findSFTP notes where the built-in sftp server is.
func (l *Launcher) findSFTP() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	path, ok := SFTPServer(exe)
	if !ok {
		l.noSFTP = "the built-in sftp server " + path + " is missing (make install): sftp works only in jails whose root file system has a server"
		return
	}
	l.sftp = path
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
