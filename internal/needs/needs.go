// Package needs says what a test needs of the machine. It is for tests: one that does not
// have what it needs is skipped, with the reason, and fails where JAIL_TEST_MUST_RUN=1 says
// that everything must run.
//
// A kernel that is older than a feature is the one excuse that always holds. On a newer one
// the feature is missing for another reason, which whoever sets the variable wants to know.
package needs

import (
	"fmt"
	"os"
	"os/exec"
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
