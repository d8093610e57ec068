#include "textflag.h"

// The kernel calls this with the signal's number in DI, on the thread's signal
// stack. It writes one byte, the number, to the pipe and returns; every
// register is restored by rt_sigreturn(2).
TEXT ·sigwrite(SB),NOSPLIT|NOFRAME,$0
	SUBQ	$24, SP
	MOVB	DIB, 8(SP)
	MOVL	·sigpipe(SB), DI
	LEAQ	8(SP), SI
	MOVQ	$1, DX
	MOVQ	$1, AX	// SYS_write
	SYSCALL
	ADDQ	$24, SP
	RET

TEXT ·sigrestore(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$15, AX	// SYS_rt_sigreturn
	SYSCALL
	INT	$3

// func sigHandlers() (write, restore uintptr)
TEXT ·sigHandlers(SB),NOSPLIT,$0-16
	LEAQ	·sigwrite(SB), AX
	MOVQ	AX, write+0(FP)
	LEAQ	·sigrestore(SB), AX
	MOVQ	AX, restore+8(FP)
	RET
