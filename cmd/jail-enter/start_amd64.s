#include "textflag.h"

// The program's entry point when it is linked with "-E main.start" (Makefile).
//
// The kernel gives the arguments, the environment and the auxiliary vector on the
// stack. quick does a session with nothing else: no heap, no goroutine, no other
// thread, hence nothing of the runtime, whose start is most of what a short
// session costs. What compiled Go code expects all the same is a g, for the stack
// checks at the top of functions (its zero limit says that there is always room)
// and the thread pointer to find it by; a zero X15 is made by the call's wrapper.
//
// When quick comes back nothing has been done, and the runtime starts as it would
// have at once, with the arguments quick has left for it.
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
	CALL	·quick(SB)
	MOVQ	8(SP), SI	// argv, then the environment and the auxiliary vector
	MOVQ	$1, DI	// argc
	MOVQ	·stack(SB), SP
	JMP	runtime·rt0_go(SB)

GLOBL ·stack(SB), NOPTR, $8
