#include "textflag.h"

// CLONE makes the system call, with the Child in R10. The parent returns what came of it.
// The child, on a stack of its own, goes to entry and never comes back: it shares the
// parent's memory, so it must not return through the parent's frames. No frame is below its
// own: no link register, no frame pointer.
#define CLONE(call, entry, r, errno) \
	MOVD	$call, R8 \
	SVC \
	CBZ	R0, inchild \
	CMN	$4095, R0 \
	BCS	failed \
	MOVD	R0, r \
	MOVD	ZR, errno \
	RET \
failed: \
	NEG	R0, R0 \
	MOVD	$-1, R1 \
	MOVD	R1, r \
	MOVD	R0, errno \
	RET \
inchild: \
	MOVD	ZR, R29 \
	SUB	$32, RSP \
	MOVD	R10, 8(RSP) \
	CALL	entry \
	BRK

#define SYS_clone 220
#define SYS_clone3 435

// func cloneVM(flags, stack, pidfd, tid uintptr, c *Child) (r, errno uintptr)
//
// clone(2) for the child, which goes to child(c). The kernel's last two arguments are in
// another order than on amd64 (CONFIG_CLONE_BACKWARDS): tls, then tid.
TEXT ·cloneVM(SB),NOSPLIT|NOFRAME,$0-56
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	pidfd+16(FP), R2
	MOVD	$0, R3
	MOVD	tid+24(FP), R4
	MOVD	c+32(FP), R10
	CLONE(SYS_clone, ·child(SB), r+40(FP), errno+48(FP))

// func clone3VM(args *cloneArgs, size uintptr, c *Child) (r, errno uintptr)
//
// The same with clone3(2), for what clone(2) has no flags for.
TEXT ·clone3VM(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	c+16(FP), R10
	CLONE(SYS_clone3, ·child(SB), r+24(FP), errno+32(FP))

// func cloneOwner(flags, stack uintptr, c *Child) (r, errno uintptr)
//
// clone(2) for the process that makes the child, which goes to owner(c).
TEXT ·cloneOwner(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	c+16(FP), R10
	CLONE(SYS_clone, ·owner(SB), r+24(FP), errno+32(FP))
