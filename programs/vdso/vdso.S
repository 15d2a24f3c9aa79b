/*
 * The code page the kernel maps into every process as [vdso].
 *
 * Each entry is its system call: a call costs the same on the simulated hart wherever it starts,
 * and virtual time needs no shared page. The return from a signal handler must be exactly these
 * two instructions, with nothing between: stack unwinders recognise them.
 */
	.option norelax
	.text

	.macro entry name, number
	.globl	__vdso_\name
	.type	__vdso_\name, @function
	.balign	4
__vdso_\name:
	.cfi_startproc
	li	a7, \number
	ecall
	ret
	.cfi_endproc
	.size	__vdso_\name, . - __vdso_\name
	.endm

	.globl	__vdso_rt_sigreturn
	.type	__vdso_rt_sigreturn, @function
	.balign	4
__vdso_rt_sigreturn:
	.cfi_startproc
	.cfi_signal_frame
	.option push
	.option norvc
	li	a7, 139
	ecall
	.option pop
	.cfi_endproc
	.size	__vdso_rt_sigreturn, . - __vdso_rt_sigreturn

	entry	clock_gettime, 113
	entry	clock_getres, 114
	entry	getcpu, 168
	entry	gettimeofday, 169
	entry	riscv_hwprobe, 258
	entry	flush_icache, 259
