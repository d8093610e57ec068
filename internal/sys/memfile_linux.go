package sys

import (
	"syscall"
	"unsafe"
)

// MemFile is memfd_create(2): a file in memory that can be sealed.
func MemFile(name string) (int, error) {
	const cloexec, allowSealing = 1, 2
	r, _, e := syscall.RawSyscall(sysMemfd, uintptr(unsafe.Pointer(cstr(name))), cloexec|allowSealing, 0)
	return fdErr(r, e)
}

// Seal has nobody change a MemFile any more, nor its size (fcntl(2), F_ADD_SEALS).
func Seal(fd int) error {
	const addSeals, all = 1033, 1 | 2 | 4 | 8
	_, err := Fcntl(fd, addSeals, all)
	return err
}
