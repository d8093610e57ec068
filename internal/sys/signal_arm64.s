#include "textflag.h"

// The kernel calls this with the signal's number in R0 and the address of
// sigrestore in R30, on the thread's signal stack. It writes one byte, the number,
// to the pipe and returns; every register is restored by rt_sigreturn(2).
TEXT ·sigwrite(SB),NOSPLIT|NOFRAME,$0
	SUB	$16, RSP
	MOVB	R0, 8(RSP)
	MOVW	·sigpipe(SB), R0
	ADD	$8, RSP, R1
	MOVD	$1, R2
	MOVD	$64, R8	// SYS_write
	SVC
	ADD	$16, RSP
	RET

TEXT ·sigrestore(SB),NOSPLIT|NOFRAME,$0
	MOVD	$139, R8	// SYS_rt_sigreturn
	SVC
	BRK

// func sigHandlers() (write, restore uintptr)
TEXT ·sigHandlers(SB),NOSPLIT,$0-16
	MOVD	$·sigwrite(SB), R0
	MOVD	R0, write+0(FP)
	MOVD	$·sigrestore(SB), R0
	MOVD	R0, restore+8(FP)
	RET
