package sys

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Commands of bpf(2), and their attributes (union bpf_attr, linux/bpf.h). To change one
// entry of a map that is pinned takes no more than these.
const (
	bpfMapUpdate = 2
	bpfMapDelete = 3
	bpfObjGet    = 7
)

type bpfObj struct {
	path  uint64
	_     uint32 // bpf_fd
	flags uint32
}

type bpfElem struct {
	fd    uint32
	_     uint32
	key   uint64
	value uint64
	flags uint64
}

// OpenPinned opens what is pinned in a BPF file system. It takes CAP_BPF or CAP_SYS_ADMIN.
func OpenPinned(path string) (int, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	attr := bpfObj{path: pinned(&pins, p)}
	return bpf(bpfObjGet, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// SetInMap sets one entry of a BPF map. key and value have the map's sizes, or the kernel
// reads what follows them.
func SetInMap(fd int, key, value []byte) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	attr := bpfElem{fd: uint32(fd), key: pinned(&pins, unsafe.SliceData(key)), value: pinned(&pins, unsafe.SliceData(value))}
	_, err := bpf(bpfMapUpdate, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// DeleteFromMap removes one entry of a BPF map; ENOENT is one that is not there.
func DeleteFromMap(fd int, key []byte) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	attr := bpfElem{fd: uint32(fd), key: pinned(&pins, unsafe.SliceData(key))}
	_, err := bpf(bpfMapDelete, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// pinned is p as a number, which the attributes have: p stays where it is until pins are
// given back.
func pinned(pins *runtime.Pinner, p *byte) uint64 {
	pins.Pin(p)
	return uint64(uintptr(unsafe.Pointer(p)))
}

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	n, _, e := syscall.Syscall(sysBPF, cmd, uintptr(attr), size)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}
