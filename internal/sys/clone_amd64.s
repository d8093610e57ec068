#include "textflag.h"

// func cloneVM(flags, stack, pidfd, tid uintptr, c *Child) (r, errno uintptr)
//
// clone(2) with its own stack for the child, which goes to child(c) and never
// comes back. The child shares the parent's memory, so it must not return
// through the parent's frames.
TEXT ·cloneVM(SB),NOSPLIT|NOFRAME,$0-56
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	pidfd+16(FP), DX
	MOVQ	tid+24(FP), R10
	MOVQ	c+32(FP), R12
	MOVQ	$0, R8
	MOVQ	$56, AX	// SYS_clone
	SYSCALL
	TESTQ	AX, AX
	JEQ	inchild
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, r+40(FP)
	MOVQ	$0, errno+48(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, r+40(FP)
	MOVQ	AX, errno+48(FP)
	RET
inchild:
	SUBQ	$32, SP
	MOVQ	R12, 0(SP)
	CALL	·child(SB)
	INT	$3

// func clone3VM(args *cloneArgs, size uintptr, c *Child) (r, errno uintptr)
//
// The same with clone3(2), for what clone(2) has no flags for.
TEXT ·clone3VM(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	c+16(FP), R12
	MOVQ	$435, AX	// SYS_clone3
	SYSCALL
	TESTQ	AX, AX
	JEQ	inchild
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, r+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, r+24(FP)
	MOVQ	AX, errno+32(FP)
	RET
inchild:
	SUBQ	$32, SP
	MOVQ	R12, 0(SP)
	CALL	·child(SB)
	INT	$3

// func cloneOwner(flags, stack uintptr, c *Child) (r, errno uintptr)
//
// clone(2) for the process that makes the child, which goes to owner(c).
TEXT ·cloneOwner(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	c+16(FP), R12
	MOVQ	$0, R8
	MOVQ	$56, AX	// SYS_clone
	SYSCALL
	TESTQ	AX, AX
	JEQ	inowner
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, r+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, r+24(FP)
	MOVQ	AX, errno+32(FP)
	RET
inowner:
	SUBQ	$32, SP
	MOVQ	R12, 0(SP)
	CALL	·owner(SB)
	INT	$3
