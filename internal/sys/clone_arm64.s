#include "textflag.h"

// func cloneVM(flags, stack, pidfd, tid uintptr, c *Child) (r, errno uintptr)
//
// clone(2) with its own stack for the child, which goes to child(c) and never
// comes back. The child shares the parent's memory, so it must not return
// through the parent's frames. The kernel's last two arguments are in another
// order than on amd64 (CONFIG_CLONE_BACKWARDS): tls, then tid.
TEXT ·cloneVM(SB),NOSPLIT|NOFRAME,$0-56
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	pidfd+16(FP), R2
	MOVD	$0, R3
	MOVD	tid+24(FP), R4
	MOVD	c+32(FP), R10
	MOVD	$220, R8	// SYS_clone
	SVC
	CBZ	R0, inchild
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, r+40(FP)
	MOVD	ZR, errno+48(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, r+40(FP)
	MOVD	R0, errno+48(FP)
	RET
inchild:
	// No frame is below this one: no link register, no frame pointer.
	MOVD	ZR, R29
	SUB	$32, RSP
	MOVD	R10, 8(RSP)
	CALL	·child(SB)
	BRK

// func clone3VM(args *cloneArgs, size uintptr, c *Child) (r, errno uintptr)
//
// The same with clone3(2), for what clone(2) has no flags for.
TEXT ·clone3VM(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	c+16(FP), R10
	MOVD	$435, R8	// SYS_clone3
	SVC
	CBZ	R0, inchild
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, r+24(FP)
	MOVD	ZR, errno+32(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, r+24(FP)
	MOVD	R0, errno+32(FP)
	RET
inchild:
	MOVD	ZR, R29
	SUB	$32, RSP
	MOVD	R10, 8(RSP)
	CALL	·child(SB)
	BRK

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
	MOVD	$220, R8	// SYS_clone
	SVC
	CBZ	R0, inowner
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, r+24(FP)
	MOVD	ZR, errno+32(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, r+24(FP)
	MOVD	R0, errno+32(FP)
	RET
inowner:
	MOVD	ZR, R29
	SUB	$32, RSP
	MOVD	R10, 8(RSP)
	CALL	·owner(SB)
	BRK
