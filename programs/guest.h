/*
 * What a guest program needs when it has no C library: system calls, printing, start-up.
 *
 * Programs that include this are built with -nostdlib -static, so the ELF holds nothing but what
 * stands here and in the program itself. Structures are those of riscv64 Linux's uapi headers.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long ulong;

/* System call numbers: include/uapi/asm-generic/unistd.h. */
enum {
    SYS_unlinkat = 35, SYS_ftruncate = 46, SYS_openat = 56, SYS_close = 57, SYS_read = 63,
    SYS_write = 64, SYS_pread64 = 67, SYS_pwrite64 = 68, SYS_fsync = 82, SYS_sync_file_range = 84,
    SYS_exit_group = 94, SYS_sched_yield = 124,
    SYS_sigaltstack = 132, SYS_rt_sigaction = 134, SYS_getrusage = 165, SYS_getpid = 172,
    SYS_brk = 214, SYS_munmap = 215, SYS_clone = 220, SYS_mmap = 222,
    SYS_swapon = 224, SYS_swapoff = 225, SYS_mprotect = 226, SYS_msync = 227,
    SYS_mincore = 232, SYS_madvise = 233, SYS_wait4 = 260, SYS_prlimit64 = 261,
};

enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
enum { MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20 };
enum { MADV_DONTNEED = 4, MADV_NOHUGEPAGE = 15 };
enum { O_RDONLY = 0, O_RDWR = 2, O_CREAT = 0100, O_TRUNC = 01000, AT_FDCWD = -100 };
enum { SYNC_FILE_RANGE_WAIT_BEFORE = 1, MS_SYNC = 4, WNOHANG = 1 };
enum { SIGBUS = 7, SIGSEGV = 11, SIGCHLD = 17 };
enum { SEGV_MAPERR = 1, SEGV_ACCERR = 2, BUS_ADRERR = 2 };
enum { SA_SIGINFO = 4, SA_ONSTACK = 0x08000000 };
enum { RLIMIT_STACK = 3 };

typedef struct { int si_signo, si_errno, si_code, pad; void *si_addr; } siginfo_t;
typedef struct { void *ss_sp; int ss_flags; size_t ss_size; } stack_t;
typedef struct {
    ulong uc_flags;
    void *uc_link;
    stack_t uc_stack;
    ulong uc_sigmask, uc_reserved[15];
    struct { ulong pc, ra, sp, gp, tp, t0, t1, t2, s0, s1, a[8]; } uc_mcontext
        __attribute__((aligned(16)));
} ucontext_t;
struct sigaction { void (*handler)(int, siginfo_t *, ucontext_t *); ulong flags, mask; };
struct rlimit { ulong soft, hard; };

static inline long syscall6(long n, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = n;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
#define syscall(n, a, b, c) syscall6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

static inline long sys_write(int fd, const void *data, size_t len)
{
    return syscall(SYS_write, fd, data, len);
}
static inline long sys_read(int fd, void *data, size_t len) { return syscall(SYS_read, fd, data, len); }
static inline long sys_pread(int fd, void *data, size_t len, long offset)
{
    return syscall6(SYS_pread64, fd, (long)data, len, offset, 0, 0);
}
static inline long sys_pwrite(int fd, const void *data, size_t len, long offset)
{
    return syscall6(SYS_pwrite64, fd, (long)data, len, offset, 0, 0);
}
static inline int sys_open(const char *path, int flags)
{
    return syscall6(SYS_openat, AT_FDCWD, (long)path, flags, 0600, 0, 0);
}
static inline long sys_close(int fd) { return syscall(SYS_close, fd, 0, 0); }
static inline long sys_unlink(const char *path) { return syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
static inline long sys_ftruncate(int fd, long size) { return syscall(SYS_ftruncate, fd, size, 0); }
static inline void *sys_mmap(size_t len, int prot, int flags, int fd)
{
    return (void *)syscall6(SYS_mmap, 0, len, prot, flags, fd, 0);
}
static inline long sys_munmap(void *at, size_t len) { return syscall(SYS_munmap, at, len, 0); }
static inline long sys_mprotect(void *at, size_t len, int prot)
{
    return syscall(SYS_mprotect, at, len, prot);
}
static inline long sys_madvise(void *at, size_t len, int advice)
{
    return syscall(SYS_madvise, at, len, advice);
}
static inline long sys_mincore(void *at, size_t len, unsigned char *out)
{
    return syscall(SYS_mincore, at, len, out);
}
static inline char *sys_brk(void *to) { return (char *)syscall(SYS_brk, to, 0, 0); }
static inline int sys_fork(void) { return syscall6(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0); }
static inline int sys_wait(int pid, int *status)
{
    return syscall6(SYS_wait4, pid, (long)status, 0, 0, 0, 0);
}
static inline void __attribute__((noreturn)) sys_exit(int status)
{
    for (;;)
        syscall(SYS_exit_group, status, 0, 0);
}

/* The compiler may call these by itself. */
void *memset(void *to, int byte, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((volatile unsigned char *)to)[i] = byte;
    return to;
}
void *memcpy(void *to, const void *from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((volatile unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

static size_t str_len(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

/* Output goes out line by line, so that nothing is pending when the program forks. */
static char out_line[512];
static size_t out_len;

static void out_char(char c)
{
    out_line[out_len++] = c;
    if (c == '\n' || out_len == sizeof out_line) {
        sys_write(1, out_line, out_len);
        out_len = 0;
    }
}

/* %s, %d, %u, %x, %c with an optional width; a '-' pads on the right. Integers are long (%ld, %lu, %lx). */
static void __attribute__((format(printf, 1, 2))) print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    for (; *format; format++) {
        char digits[24];
        const char *text = digits;
        size_t len = 0, width = 0;
        int left = 0;
        if (*format != '%') {
            out_char(*format);
            continue;
        }
        if (*++format == '-')
            left = 1, format++;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (*format++ - '0');
        if (*format == 'l')
            format++;
        if (*format == 's') {
            text = va_arg(args, const char *);
            len = str_len(text);
        } else if (*format == 'c') {
            digits[0] = va_arg(args, int), len = 1;
        } else {
            long value = va_arg(args, long);
            ulong rest = *format == 'd' && value < 0 ? -(ulong)value : (ulong)value;
            ulong base = *format == 'x' ? 16 : 10;
            char *at = digits + sizeof digits;
            do
                *--at = "0123456789abcdef"[rest % base];
            while (rest /= base);
            if (*format == 'd' && value < 0)
                *--at = '-';
            text = at;
            len = digits + sizeof digits - at;
        }
        for (size_t i = len; !left && i < width; i++)
            out_char(' ');
        for (size_t i = 0; i < len; i++)
            out_char(text[i]);
        for (size_t i = len; left && i < width; i++)
            out_char(' ');
    }
    va_end(args);
}

/* The stack a program starts with is argc, argv..., NULL, envp..., NULL, auxv. */
__asm__(".globl _start\n"
        "_start:\n"
        ".option push\n.option norelax\n"
        "    la gp, __global_pointer$\n"
        ".option pop\n"
        "    mv a0, sp\n"
        "    andi sp, sp, -16\n"
        "    call guest_start\n");

static int guest_main(int argc, char **argv);

void __attribute__((noreturn, used)) guest_start(long *stack)
{
    sys_exit(guest_main(stack[0], (char **)(stack + 1)));
}

#endif
