#include "textflag.h"

// CLONE makes the system call, with the Child in R12. The parent returns what came of it.
// The child, on a stack of its own, goes to entry and never comes back: it shares the
// parent's memory, so it must not return through the parent's frames.
#define CLONE(call, entry, r, errno) \
	MOVQ	$call, AX \
	SYSCALL \
	TESTQ	AX, AX \
	JEQ	inchild \
	CMPQ	AX, $0xfffffffffffff001 \
	JCC	failed \
	MOVQ	AX, r \
	MOVQ	$0, errno \
	RET \
failed: \
	NEGQ	AX \
	MOVQ	$-1, r \
	MOVQ	AX, errno \
	RET \
inchild: \
	SUBQ	$32, SP \
	MOVQ	R12, 0(SP) \
	CALL	entry \
	INT	$3

#define SYS_clone 56
#define SYS_clone3 435

// func cloneVM(flags, stack, pidfd, tid uintptr, c *Child) (r, errno uintptr)
//
// clone(2) for the child, which goes to child(c).
TEXT ·cloneVM(SB),NOSPLIT|NOFRAME,$0-56
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	pidfd+16(FP), DX
	MOVQ	tid+24(FP), R10
	MOVQ	c+32(FP), R12
	MOVQ	$0, R8
	CLONE(SYS_clone, ·child(SB), r+40(FP), errno+48(FP))

// func clone3VM(args *cloneArgs, size uintptr, c *Child) (r, errno uintptr)
//
// The same with clone3(2), for what clone(2) has no flags for.
TEXT ·clone3VM(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	c+16(FP), R12
	CLONE(SYS_clone3, ·child(SB), r+24(FP), errno+32(FP))

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
	CLONE(SYS_clone, ·owner(SB), r+24(FP), errno+32(FP))
