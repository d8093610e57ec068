#include "textflag.h"

// The program's entry point when it is linked with "-E jail/internal/early.start".
//
// The kernel gives the arguments, the environment and the auxiliary vector on the
// stack. program does a session with nothing else: no heap, no goroutine, no other
// thread, hence nothing of the runtime. What compiled Go code expects all the same is
// a g, for the stack checks at the top of functions (its zero limit says that there
// is always room) and the thread pointer to find it by; a zero X15 is made by the
// call's wrapper.
TEXT ·start(SB),NOSPLIT|NOFRAME,$0
	MOVQ	SP, ·stack(SB)
	LEAQ	·tls+8(SB), SI	// the slot is the word below the pointer
	MOVQ	$0x1002, DI	// ARCH_SET_FS, arch_prctl(2)
	MOVQ	$158, AX	// SYS_arch_prctl
	SYSCALL
	LEAQ	·g(SB), R14
	MOVQ	R14, ·tls(SB)
	ANDQ	$~15, SP
	SUBQ	$16, SP
	MOVQ	·stack(SB), AX
	MOVQ	AX, 0(SP)
	CALL	·program(SB)
	INT	$3	// it does not return

GLOBL ·stack(SB), NOPTR, $8
