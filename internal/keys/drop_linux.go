package keys

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/sys"
)

// dropTo leaves nothing but the rights of the login's files' owner: the uid
// inside, which is the uid on disk, whatever id map the jail runs with. Whoever has
// that uid on the host can neither stop nor end the process (jail.LookerID), unless the host
// is a container that has no such id. An
// ordinary user stays who he is.
//
// Tested as a process: TestProcess/"privileges are gone before the rootfs is read".
func dropTo(login *jail.Login) error {
	if os.Geteuid() != 0 {
		return undumpable()
	}
	return Become(ownerOf(login))
}

// Become leaves the process nothing but the rights of uid and gid, and no groups. It is killed or
// stopped by nobody who has that uid on the host (jail.LookerID), and nobody attaches to it; no
// exec may follow, which would undo that. It fails for ids that stand for root or for no change, and
// when anything is left of what the process was.
func Become(uid, gid uint32) error {
	if err := checkIDs(uid, gid); err != nil {
		return err
	}
	// Groups first: they take privilege to change, which the uid takes away.
	// sshd's own must not stay (CVE-2021-41617). Package syscall, unlike
	// x/sys/unix, changes every thread of the process.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("setresgid %d: %w", gid, err)
	}
	who, err := sys.AsLooker(jail.LookerID, uid, func(who uint32) error { return syscall.Setresuid(int(who), int(uid), int(who)) })
	if err != nil {
		return fmt.Errorf("setresuid %d: %w", uid, err)
	}
	if err := verifyDropped(int(who), int(uid), int(gid)); err != nil {
		return err
	}
	return undumpable()
}

// ownerOf are the ids of the login's files.
func ownerOf(login *jail.Login) (uid, gid uint32) {
	uid, gid = uint32(login.UID), uint32(login.UID)
	if login.HasGID {
		gid = uint32(login.GID)
	}
	return uid, gid
}

// checkIDs says what is wrong with ids to become. They are numbers from a file; -1 would mean
// "leave it", and leave root (CVE-2019-14287).
func checkIDs(uid, gid uint32) error {
	if !jail.ValidID(uid) || !jail.ValidID(gid) {
		return fmt.Errorf("cannot read files as uid %d, gid %d", uid, gid)
	}
	return nil
}

// dropThread is dropTo for the calling thread alone, which ends with its goroutine
// (sys.DropThread).
func dropThread(login *jail.Login) error {
	if unix.Geteuid() != 0 {
		return undumpable()
	}
	uid, gid := ownerOf(login)
	if err := checkIDs(uid, gid); err != nil {
		return err
	}
	who, err := sys.AsLooker(jail.LookerID, uid, func(who uint32) error { return sys.DropThread(who, uid, gid) })
	if err != nil {
		return fmt.Errorf("become uid %d, gid %d: %w", uid, gid, err)
	}
	if err := verifyDropped(int(who), int(uid), int(gid)); err != nil {
		return err
	}
	return undumpable()
}

var errNotDropped = errors.New("privileges are still there after dropping them")

// verifyDropped trusts no return value of the calls before.
func verifyDropped(who, uid, gid int) error {
	r, e, s := unix.Getresuid()
	if r != who || e != uid || s != who {
		return errNotDropped
	}
	if r, e, s = unix.Getresgid(); r != gid || e != gid || s != gid {
		return errNotDropped
	}
	if groups, err := unix.Getgroups(); err != nil || len(groups) != 0 {
		return errNotDropped
	}
	// With SECBIT_NO_SETUID_FIXUP or SECBIT_KEEP_CAPS they would have stayed.
	var caps [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for _, c := range caps {
		if c.Effective != 0 || c.Permitted != 0 {
			return errNotDropped
		}
	}
	return nil
}

// undumpable keeps others from attaching to us, and our files in /proc root's. Last, for a
// change of uid sets it anew.
func undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	return nil
}
