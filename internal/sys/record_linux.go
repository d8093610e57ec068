//go:build linux

package sys

import (
	"syscall"
	"unsafe"
)

// Record is what a Child writes into a file before it takes on its identity. The file is
// there already, regular, of the child's own uid then, and has one name; otherwise, and if
// anything else is in the way, nothing is written. No link is followed.
type Record struct {
	Path   *byte // a C string, below Child.RecordRoot; nil is no record
	Offset int64 // -1 appends
	Data   []byte
	// PID, if not negative, is where in Data the child's pid belongs, as an int32.
	PID int
}

// childRecords writes Records. The child does it, since a write can last: the file
// system may not answer, or hold whoever writes back.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childRecords(c *Child) {
	for i := 0; i < len(c.Records); i++ {
		if c.Records[i].Path != nil {
			childRecord(c, &c.Records[i])
		}
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childRecord(c *Child, r *Record) {
	c.how.flags = syscall.O_WRONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_CLOEXEC
	if r.Offset < 0 {
		c.how.flags |= syscall.O_APPEND
	}
	c.how.resolve = ResolveBeneath | ResolveNoSymlinks | ResolveNoMagiclinks
	fd, _, e := syscall.RawSyscall6(sysOpenat2, uintptr(c.RecordRoot), uintptr(unsafe.Pointer(r.Path)),
		uintptr(unsafe.Pointer(&c.how)), unsafe.Sizeof(c.how), 0, 0)
	if e != 0 {
		return
	}
	st := &c.take.st
	_, _, e = syscall.RawSyscall(syscall.SYS_FSTAT, fd, uintptr(unsafe.Pointer(st)), 0)
	uid, _, _ := syscall.RawSyscall(syscall.SYS_GETEUID, 0, 0, 0)
	if e == 0 && st.Mode&syscall.S_IFMT == syscall.S_IFREG && st.Nlink == 1 && uintptr(st.Uid) == uid {
		if r.PID >= 0 {
			pid, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
			*(*int32)(unsafe.Pointer(&r.Data[r.PID])) = int32(pid)
		}
		data := uintptr(unsafe.Pointer(&r.Data[0]))
		if r.Offset < 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, fd, data, uintptr(len(r.Data)))
		} else {
			_, _, _ = syscall.RawSyscall6(syscall.SYS_PWRITE64, fd, data, uintptr(len(r.Data)), uintptr(r.Offset), 0, 0)
		}
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
}
