package source

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"jail/internal/sys"
)

// machines are the numbers (e_machine, elf(5)) of the processors whose programs the kernel
// runs, where it runs ours.
var machines = map[string][]uint16{
	"amd64": {62, 3},   // EM_X86_64, EM_386
	"arm64": {183, 40}, // EM_AARCH64, EM_ARM
}

// ours makes sure that the programs of a root directory are not for another processor,
// going by its shell, the one program that each has. One that is missing, or no ELF file,
// says nothing; then the session does.
func ours(root int) error {
	fd, err := sys.Openat2(root, "bin/sh", syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return nil
	}
	defer sys.Close(fd)
	var head [20]byte
	if n, err := sys.Read(fd, head[:]); err != nil || n < len(head) || string(head[:4]) != "\x7fELF" {
		return nil
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == 2 { // ELFDATA2MSB
		order = binary.BigEndian
	}
	known, is := machines[runtime.GOARCH], order.Uint16(head[18:])
	if slices.Contains(known, is) || len(known) == 0 {
		return nil
	}
	of := strconv.Itoa(int(is))
	for arch, m := range machines {
		if slices.Contains(m, is) {
			of = arch
		}
	}
	return fmt.Errorf("its programs are for another processor (%s) than this one (%s); import an image for this one", of, runtime.GOARCH)
}
