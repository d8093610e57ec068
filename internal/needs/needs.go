// Package needs says what a test needs of the machine. It is for tests: one that does not
// have what it needs is skipped, with the reason, and fails where JAIL_TEST_MUST_RUN=1 says
// that everything must run.
//
// Two excuses always hold: a kernel that is older than a feature, and one that was built
// without it, by its own word. On another the feature is missing for a reason that whoever
// sets the variable wants to know.
package needs

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Root leaves the test out where it does not run as root. why is what takes root.
func Root(t testing.TB, why string) {
	t.Helper()
	Machine(t, os.Geteuid() == 0, "root is needed: "+why)
}

// Program leaves the test out where a program is missing, and returns its path. name is a
// path, or is looked for on PATH.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Machine(t, err == nil, fmt.Sprintf("%s is needed: %v", name, err))
	return path
}

// Machine leaves the test out where the machine does not have what; what is the reason that
// is given.
func Machine(t testing.TB, has bool, what string) {
	t.Helper()
	if !has {
		leaveOut(t, os.Getenv("JAIL_TEST_MUST_RUN") == "1", what)
	}
}

// Kernel leaves the test out where the kernel does not have a feature. Linux has it since
// major.minor, and a kernel from then on that lacks it is a fault where everything must run.
func Kernel(t testing.TB, has bool, major, minor int, feature string) {
	t.Helper()
	if has {
		return
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal("uname: ", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	must := os.Getenv("JAIL_TEST_MUST_RUN") == "1" && !older(release, major, minor)
	leaveOut(t, must, fmt.Sprintf("%s is needed (Linux %d.%d); this is %s", feature, major, minor, release))
}

// Config leaves the test out where the kernel does not have a feature that it can be built
// without. That the kernel itself says so (option, as "CONFIG_QFMT_V2", in /proc/config.gz
// or /boot/config-RELEASE) is an excuse also where everything must run: there is no other
// kernel to be had there. instead is the target of make that shows it on one that has it.
func Config(t testing.TB, has bool, option, instead string) {
	t.Helper()
	if has {
		return
	}
	text, err := kernelConfig()
	if err == nil && !built(text, option) {
		leaveOut(t, false, fmt.Sprintf("the kernel is built without %s; %s shows it on one that has it", option, instead))
		return
	}
	leaveOut(t, os.Getenv("JAIL_TEST_MUST_RUN") == "1", fmt.Sprintf("what %s gives the kernel is needed, and it does not say that it is built without (%v)", option, err))
}

// kernelConfig is what the running kernel was built with.
func kernelConfig() (string, error) {
	if f, err := os.Open("/proc/config.gz"); err == nil {
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(z)
		return string(text), err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	text, err := os.ReadFile("/boot/config-" + unix.ByteSliceToString(uts.Release[:]))
	return string(text), err
}

// built reports whether a kernel's configuration has the option, as a module or not.
func built(config, option string) bool {
	return strings.Contains("\n"+config, "\n"+option+"=")
}

func leaveOut(t testing.TB, must bool, why string) {
	t.Helper()
	if must {
		t.Fatal(why)
	}
	t.Skip(why)
}

// older reports whether a release, as uname(2) has it, is before major.minor. One that
// cannot be read is not.
func older(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a < major || a == major && b < minor
}
