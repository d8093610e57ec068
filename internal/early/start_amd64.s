#include "textflag.h"

#define noThreadPointerLen 71

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
	TESTQ	AX, AX
	JNE	refused
	LEAQ	·g(SB), R14
	MOVQ	R14, ·tls(SB)
	ANDQ	$~15, SP
	SUBQ	$16, SP
	MOVQ	·stack(SB), AX
	MOVQ	AX, 0(SP)
	CALL	·program(SB)
	INT	$3	// it does not return

refused:
	MOVQ	$2, DI
	LEAQ	·noThreadPointer(SB), SI
	MOVQ	$(noThreadPointerLen), DX
	MOVQ	$1, AX	// SYS_write
	SYSCALL
	MOVQ	$125, DI
	MOVQ	$231, AX	// SYS_exit_group
	SYSCALL
	INT	$3

GLOBL ·stack(SB), NOPTR, $8

DATA ·noThreadPointer+0(SB)/8, $"jail-ent"
DATA ·noThreadPointer+8(SB)/8, $"er: cann"
DATA ·noThreadPointer+16(SB)/8, $"ot enter"
DATA ·noThreadPointer+24(SB)/8, $" the jai"
DATA ·noThreadPointer+32(SB)/8, $"l: the k"
DATA ·noThreadPointer+40(SB)/8, $"ernel re"
DATA ·noThreadPointer+48(SB)/8, $"fuses a "
DATA ·noThreadPointer+56(SB)/8, $"thread p"
DATA ·noThreadPointer+64(SB)/7, $"ointer\n"
GLOBL ·noThreadPointer(SB), RODATA|NOPTR, $71
