	.section .start, "ax"
	.globl _start
_start:	call	run
	ecall
