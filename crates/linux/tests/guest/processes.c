/* Processes: fork, wait in all forms, stop and continue, orphans, groups and sessions. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t children;
static int sig_code, sig_status;
static void on_child(int sig, siginfo_t *si, void *uc)
{
	(void)sig; (void)uc;
	children++;
	sig_code = si->si_code;
	sig_status = si->si_status;
}

static const char *err(int r) { return r < 0 ? strerror(errno) : "ok"; }

int main(void)
{
	int st, r;
	siginfo_t si;
	struct rusage ru;
	pid_t pid;
	setvbuf(stdout, 0, _IOLBF, 0);

	r = wait(&st);
	printf("no children: %d %s\n", r, err(r));

	fflush(stdout);
	if (!(pid = fork())) _exit(7);
	r = waitpid(pid, &st, 0);
	printf("child %d, status %x\n", r == pid, st);

	struct sigaction sa = { .sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaction(SIGCHLD, &sa, 0);
	int p[2];
	if (pipe(p)) return 1;
	if (!(pid = fork())) {
		char c;
		(void)!read(p[0], &c, 1);
		_exit(3);
	}
	r = waitpid(pid, &st, WNOHANG);
	printf("WNOHANG while it lives: %d\n", r);
	(void)!write(p[1], "x", 1);
	memset(&si, 0, sizeof si);
	r = waitid(P_PID, pid, &si, WEXITED | WNOWAIT);
	printf("waitid %d: signo %d code %d status %d pid %d\n", r, si.si_signo, si.si_code, si.si_status, si.si_pid == pid);
	r = wait4(pid, &st, 0, &ru);
	printf("then wait4 %d status %x; SIGCHLD %d code %d status %d\n", r == pid, st, (int)children, sig_code, sig_status);

	/* Stop and continue. */
	children = 0;
	if (!(pid = fork())) {
		char c;
		raise(SIGSTOP);
		(void)!read(p[0], &c, 1);
		_exit(9);
	}
	r = waitpid(pid, &st, WUNTRACED);
	printf("stopped %d by %d; SIGCHLD %d code %d\n", WIFSTOPPED(st), WSTOPSIG(st), (int)children, sig_code);
	r = waitpid(pid, &st, WUNTRACED | WNOHANG);
	printf("told once: %d\n", r);
	kill(pid, SIGCONT);
	r = waitpid(pid, &st, WCONTINUED);
	printf("continued %d\n", WIFCONTINUED(st));
	(void)!write(p[1], "z", 1);
	r = waitpid(pid, &st, 0);
	printf("ended with %d\n", WEXITSTATUS(st));

	/* A stopped process dies by SIGKILL. */
	if (!(pid = fork())) {
		raise(SIGSTOP);
		_exit(9);
	}
	waitpid(pid, &st, WUNTRACED);
	kill(pid, SIGTERM);
	r = waitpid(pid, &st, WNOHANG);
	printf("SIGTERM to a stopped one waits: %d\n", r);
	kill(pid, SIGKILL);
	waitpid(pid, &st, 0);
	printf("SIGKILL does not: %d\n", WTERMSIG(st));

	/* Nobody to wait for: SIG_IGN reaps. */
	signal(SIGCHLD, SIG_IGN);
	if (!(pid = fork())) _exit(1);
	r = waitpid(pid, &st, 0);
	printf("ignored children: %d %s\n", r, err(r));
	signal(SIGCHLD, SIG_DFL);

	/* Orphans go to the subreaper. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!(pid = fork())) {
		if (!fork()) {
			usleep(20000);
			_exit(5);
		}
		_exit(4);
	}
	waitpid(pid, &st, 0);
	printf("first %d\n", WEXITSTATUS(st));
	r = wait(&st);
	printf("its orphan %d %d\n", r > 0, WEXITSTATUS(st));

	/* Groups and sessions. */
	if (!(pid = fork())) {
		int bad = setpgid(0, 0) || getpgrp() != getpid();
		r = setsid();
		printf("setsid of a group leader: %s\n", err(r));
		_exit(bad);
	}
	waitpid(pid, &st, 0);
	printf("own group %x\n", st);
	if (!(pid = fork())) {
		pid_t sid = setsid();
		printf("session %d %d\n", sid == getpid(), getpgrp() == sid && getsid(0) == sid);
		r = setpgid(0, 0);
		printf("leader cannot move: %s\n", err(r));
		_exit(0);
	}
	waitpid(pid, &st, 0);
	r = setpgid(pid, 0);
	printf("setpgid of a dead one: %s\n", err(r));
	if (!(pid = fork())) {
		setpgid(0, 0);
		pid_t a = fork();
		if (!a) { pause(); _exit(0); }
		usleep(10000);
		kill(-getpgrp(), SIGUSR1);
		_exit(0);
	}
	waitpid(pid, &st, 0);
	printf("group killed by %d\n", WTERMSIG(st));
	while (wait(&st) > 0) printf("member killed by %d\n", WTERMSIG(st));

	/* vfork shares memory and holds the parent. */
	volatile int shared = 1;
	if (!(pid = vfork())) {
		shared = 2;
		_exit(6);
	}
	printf("vfork child wrote %d\n", shared);
	waitpid(pid, &st, 0);

	/* clone without SIGCHLD is seen by __WCLONE alone. */
	pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
	if (!pid) _exit(8);
	usleep(10000);
	r = waitpid(pid, &st, 0);
	printf("clone child without signal: %s\n", err(r));
	r = waitpid(pid, &st, __WCLONE);
	printf("with __WCLONE: %d\n", WEXITSTATUS(st));

	/* clone3. */
	struct { unsigned long f[11]; } ca;
	memset(&ca, 0, sizeof ca);
	ca.f[4] = SIGCHLD;
	pid = syscall(435, &ca, sizeof ca);
	if (!pid) _exit(11);
	waitpid(pid, &st, 0);
	printf("clone3 %d\n", WEXITSTATUS(st));
	r = syscall(435, &ca, 8);
	printf("clone3 with a short structure: %s\n", err(r));
	r = syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0);
	printf("thread without CLONE_VM: %s\n", err(r));
	r = waitid(P_ALL, 0, &si, 0);
	printf("waitid for nothing: %s\n", err(r));
	r = waitpid(-1, &st, 0x1000);
	printf("unknown option: %s\n", err(r));
	r = getrusage(5, &ru);
	printf("rusage of whom: %s\n", err(r));
	char name[16];
	prctl(PR_SET_NAME, "a name longer than fits");
	prctl(PR_GET_NAME, name);
	printf("name %s\n", name);
	return 0;
}
