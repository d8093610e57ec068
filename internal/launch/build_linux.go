package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// InstalledBuild is of which build the PID 1 is that a Launcher made now would start: that
// which belongs to this jail-init. A jail whose Status gives another one, or none, runs an
// older program, or a newer.
func InstalledBuild() (string, error) {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", err
	}
	program, ok := companion(own, "pid1", "jail-pid1")
	if !ok {
		return "", fmt.Errorf("%s: the program of the jails' first process is missing", program)
	}
	return buildOf(program)
}

// buildOf sums up a program: two of the same source, made the same way, are one build.
func buildOf(program string) (string, error) {
	f, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", program, err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}
