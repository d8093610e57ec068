package launch

import (
	"os"
	"path/filepath"
)

// companion returns the path of a program that belongs to the jail-init at exe, and
// whether it is there: PREFIX/lib/jail/installed for PREFIX/sbin/jail-init, as make
// install has it; or built, beside jail-init, as make has it.
func companion(exe, installed, built string) (path string, ok bool) {
	dir := filepath.Dir(exe)
	beside := filepath.Join(dir, built)
	if base := filepath.Base(dir); base == "sbin" || base == "bin" {
		path = filepath.Join(filepath.Dir(dir), "lib/jail", installed)
		if isProgram(path) {
			return path, true
		}
	}
	if isProgram(beside) {
		return beside, true
	}
	if path == "" {
		path = beside
	}
	return path, false
}

func isProgram(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 == 0o111
}

// NetworkProgram returns the path of jail-net that belongs to the jail-init at exe, and
// whether it is there.
func NetworkProgram(exe string) (path string, ok bool) { return companion(exe, "net", "jail-net") }
