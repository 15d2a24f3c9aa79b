/* Signals as a program sees them: handlers, masks, restart, alternate stacks, faults. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t count, last, code;
static void *volatile address;
static sigjmp_buf jump;

static void note(int sig) { count++; last = sig; }

static void info(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	count++;
	last = sig;
	code = si->si_code;
	address = si->si_addr;
}

static void leap(int sig, siginfo_t *si, void *uc)
{
	info(sig, si, uc);
	siglongjmp(jump, 1);
}

static void handle(int sig, void (*f)(int), int flags)
{
	struct sigaction sa = { .sa_handler = f, .sa_flags = flags };
	sigaction(sig, &sa, 0);
}

static void handle_info(int sig, void (*f)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = f, .sa_flags = flags | SA_SIGINFO };
	sigaction(sig, &sa, 0);
}

static void skip(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	info(sig, si, context);
	uc->uc_mcontext.__gregs[REG_PC] += 4;
	uc->uc_mcontext.__gregs[REG_A0] = 77;
}

static char *stack_low, *stack_high;
static volatile int on_stack;
static void on_alternate(int sig)
{
	char here;
	stack_t now;
	sigaltstack(0, &now);
	on_stack = &here > stack_low && &here < stack_high && now.ss_flags == SS_ONSTACK;
	count += sig == SIGUSR1;
}

static void status(const char *what, int st)
{
	if (WIFEXITED(st))
		printf("%s: exited %d\n", what, WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		printf("%s: killed by %d\n", what, WTERMSIG(st));
	else
		printf("%s: %x\n", what, st);
}

static int child(void (*f)(void))
{
	int st;
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		f();
		_exit(42);
	}
	waitpid(pid, &st, 0);
	return st;
}

static void segv_blocked(void)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, 0);
	handle(SIGSEGV, note, 0);
	*(volatile int *)8 = 1;
}
static void segv_ignored(void) { signal(SIGSEGV, SIG_IGN); *(volatile int *)8 = 1; }
static void die_term(void) { raise(SIGTERM); }
static void die_abort(void) { abort(); }
static void die_kill(void) { kill(getpid(), SIGKILL); }
static void die_rt(void) { raise(SIGRTMIN + 3); }
static void bad_frame(void)
{
	handle(SIGUSR1, note, SA_ONSTACK);
	asm volatile("li sp, 16\n li a7, 172\n ecall\n mv a0, a0\n li a1, 10\n li a7, 129\n ecall");
}
static void bad_return(void) { asm volatile("li sp, 0\n li a7, 139\n ecall"); }
static void illegal(void) { asm volatile(".word 0"); }
static void overflow_stack(void)
{
	volatile char big[4096];
	big[0] = 1;
	overflow_stack();
	big[1] = 2;
}
static void pipe_signal(void)
{
	int p[2];
	if (pipe(p)) _exit(1);
	close(p[0]);
	(void)!write(p[1], "x", 1);
}

int main(void)
{
	setvbuf(stdout, 0, _IOLBF, 0);

	/* Masks and pending signals. */
	sigset_t set, old, pending;
	handle(SIGUSR1, note, 0);
	handle(SIGUSR2, note, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &old);
	raise(SIGUSR2);
	raise(SIGUSR1);
	raise(SIGUSR1);
	sigpending(&pending);
	printf("pending %d %d, handled %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2), (int)count);
	sigprocmask(SIG_SETMASK, &old, 0);
	printf("handled %d, last %d\n", (int)count, (int)last);

	/* Real-time signals queue, with values. */
	count = 0;
	sigset_t rt;
	sigemptyset(&rt);
	sigaddset(&rt, SIGRTMIN);
	sigaddset(&rt, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &rt, 0);
	for (int i = 0; i < 3; i++) {
		union sigval v = { .sival_int = i };
		sigqueue(getpid(), SIGRTMIN + (i == 0), v);
	}
	siginfo_t si;
	struct timespec none = { 0, 0 };
	int sig;
	while ((sig = sigtimedwait(&rt, &si, &none)) > 0)
		printf("took rt+%d value %d code %d from self %d\n", sig - SIGRTMIN, si.si_value.sival_int, si.si_code, si.si_pid == getpid());
	printf("then %s\n", strerror(errno));

	/* A timed wait times out. */
	struct timespec some = { 0, 20000000 };
	printf("timed wait %d %s\n", sigtimedwait(&rt, &si, &some), strerror(errno));

	/* Interrupted calls. */
	int p[2];
	char c;
	if (pipe(p)) return 1;
	struct itimerval soon = { { 0, 0 }, { 0, 20000 } };
	handle(SIGALRM, note, 0);
	setitimer(ITIMER_REAL, &soon, 0);
	ssize_t n = read(p[0], &c, 1);
	printf("read without SA_RESTART %zd %s\n", n, strerror(errno));
	pid_t helper;
	fflush(stdout);
	if (!(helper = fork())) {
		usleep(100000);
		_exit(write(p[1], "y", 1) != 1);
	}
	handle(SIGALRM, note, SA_RESTART);
	setitimer(ITIMER_REAL, &soon, 0);
	count = 0;
	n = read(p[0], &c, 1);
	printf("read with SA_RESTART %zd %c, handled %d\n", n, c, (int)count);
	waitpid(helper, 0, 0);
	struct timespec ts = { 0, 200000000 }, rem = { 0, 0 };
	setitimer(ITIMER_REAL, &soon, 0);
	int r = nanosleep(&ts, &rem);
	printf("nanosleep %d %s, more than 100 ms left %d\n", r, strerror(errno), rem.tv_nsec > 100000000);
	setitimer(ITIMER_REAL, &soon, 0);
	r = pause();
	printf("pause %d %s\n", r, strerror(errno));

	/* sigsuspend lets a signal through and puts the mask back. */
	sigprocmask(SIG_BLOCK, &set, 0);
	raise(SIGUSR1);
	count = 0;
	sigset_t empty;
	sigemptyset(&empty);
	r = sigsuspend(&empty);
	sigprocmask(SIG_BLOCK, 0, &old);
	printf("sigsuspend %d %s, handled %d, blocked again %d\n", r, strerror(errno), (int)count, sigismember(&old, SIGUSR1));
	sigprocmask(SIG_UNBLOCK, &set, 0);

	/* SA_RESETHAND, SA_NODEFER. */
	handle(SIGUSR2, note, SA_RESETHAND);
	raise(SIGUSR2);
	struct sigaction sa;
	sigaction(SIGUSR2, 0, &sa);
	printf("reset to default %d\n", sa.sa_handler == SIG_DFL);

	/* Faults with code and address. */
	char *page = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	handle_info(SIGSEGV, leap, 0);
	handle_info(SIGBUS, leap, 0);
	handle_info(SIGILL, leap, 0);
	handle_info(SIGTRAP, skip, 0);
	if (!sigsetjmp(jump, 1)) page[5] = 1;
	printf("write to read-only: signal %d code %d offset %d\n", (int)last, (int)code, (int)((char *)address - page));
	munmap(page + 4096, 4096);
	if (!sigsetjmp(jump, 1)) last = page[4096 + 9];
	printf("read of nothing: signal %d code %d offset %d\n", (int)last, (int)code, (int)((char *)address - page));
	if (!sigsetjmp(jump, 1)) ((void (*)(void))page)();
	printf("jump to no-exec: signal %d code %d offset %d\n", (int)last, (int)code, (int)((char *)address - page));
	if (!sigsetjmp(jump, 1)) asm volatile(".word 0x0000");
	printf("illegal instruction: signal %d code %d\n", (int)last, (int)code);
	long a0;
	asm volatile(".option push\n.option norvc\nli a0, 5\nebreak\nmv %0, a0\n.option pop" : "=r"(a0) : : "a0");
	printf("breakpoint: signal %d code %d, a0 from context %ld\n", (int)last, (int)code, a0);
	sigprocmask(SIG_BLOCK, 0, &old);
	printf("SIGSEGV blocked after siglongjmp %d\n", sigismember(&old, SIGSEGV));

	/* Alternate stack. */
	stack_t st = { .ss_size = 32768 }, now;
	st.ss_sp = stack_low = malloc(st.ss_size);
	stack_high = stack_low + st.ss_size;
	printf("altstack %d\n", sigaltstack(&st, 0));
	handle(SIGUSR1, on_alternate, SA_ONSTACK);
	raise(SIGUSR1);
	sigaltstack(0, &now);
	printf("ran on it %d, flags now %d\n", on_stack, now.ss_flags);
	st.ss_size = 100;
	r = sigaltstack(&st, 0);
	printf("too small %d %s\n", r, strerror(errno));

	/* Floating point survives a handler. */
	handle(SIGUSR1, note, 0);
	double x = 1.5;
	asm volatile("fmv.d fs3, %0" : : "f"(x));
	kill(getpid(), SIGUSR1);
	double y;
	asm volatile("fmv.d %0, fs3" : "=f"(y));
	printf("fs3 %.1f\n", y);

	/* How processes die. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGILL, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	status("SIGSEGV blocked", child(segv_blocked));
	status("SIGSEGV ignored", child(segv_ignored));
	status("SIGTERM", child(die_term));
	status("abort", child(die_abort));
	status("SIGKILL", child(die_kill));
	status("real-time", child(die_rt));
	status("no stack for the frame", child(bad_frame));
	status("no frame to return to", child(bad_return));
	status("illegal", child(illegal));
	status("stack overflow", child(overflow_stack));
	status("pipe", child(pipe_signal));

	/* Errors. */
	r = kill(getpid(), 99);
	printf("kill 99: %d %s\n", r, strerror(errno));
	r = kill(999999, 0);
	printf("kill nobody: %d %s\n", r, strerror(errno));
	handle(SIGKILL, note, 0);
	r = sigaction(SIGKILL, &sa, 0);
	printf("handler for SIGKILL: %d %s\n", r, strerror(errno));
	r = syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 4);
	printf("sigset size: %d %s\n", r, strerror(errno));
	return 0;
}
