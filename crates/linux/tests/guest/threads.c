/* Threads: mutexes, conditions, joining, robust mutexes, exec and exit from a thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long total;
static int ready;
static __thread int own = 5;

static void *add(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&lock);
		total++;
		pthread_mutex_unlock(&lock);
	}
	own += (int)(long)arg;
	return (void *)(long)own;
}

static void *wait_ready(void *arg)
{
	pthread_mutex_lock(&lock);
	while (!ready)
		pthread_cond_wait(&cond, &lock);
	total += (long)arg;
	pthread_mutex_unlock(&lock);
	return 0;
}

static pthread_mutex_t *robust;
static void *die_holding(void *arg)
{
	(void)arg;
	pthread_mutex_lock(robust);
	return 0;
}

static void *run_exec(void *arg)
{
	char **argv = arg;
	char *args[] = { argv[0], "again", 0 };
	execv("/proc/self/exe", args);
	execv(argv[0], args);
	_exit(99);
}
static void *run_exit(void *arg) { (void)arg; exit(23); }
static void *forever(void *arg) { (void)arg; for (;;) pause(); }
static void *leave_last(void *arg) { (void)arg; usleep(20000); syscall(SYS_exit, 31); return 0; }

static pthread_t main_thread;
static void *signal_main(void *arg)
{
	(void)arg;
	usleep(10000);
	pthread_kill(main_thread, SIGUSR1);
	return 0;
}
static volatile sig_atomic_t got;
static pthread_t got_in;
static void on_signal(int sig) { got = sig; got_in = pthread_self(); }

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IOLBF, 0);
	if (argc > 1) {
		printf("new program, pid is tid %d\n", getpid() == syscall(SYS_gettid));
		return 17;
	}
	pthread_t t[8];
	void *ret;
	int st;
	pid_t pid;

	for (long i = 0; i < 8; i++)
		pthread_create(&t[i], 0, add, (void *)i);
	long sum = 0;
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &ret);
		sum += (long)ret;
	}
	printf("counted %ld, thread-local %ld, main's own %d\n", total, sum, own);

	total = 0;
	for (long i = 0; i < 8; i++)
		pthread_create(&t[i], 0, wait_ready, (void *)(i + 1));
	usleep(10000);
	pthread_mutex_lock(&lock);
	ready = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], 0);
	printf("condition %ld\n", total);

	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 30000000;
	if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
	pthread_mutex_lock(&lock);
	printf("timed condition %s\n", strerror(pthread_cond_timedwait(&cond, &lock, &until)));
	pthread_mutex_unlock(&lock);

	pthread_mutexattr_t attr;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	robust = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutex_init(robust, &attr);
	pthread_create(&t[0], 0, die_holding, 0);
	pthread_join(t[0], 0);
	printf("after its owner died: %s\n", strerror(pthread_mutex_lock(robust)));
	pthread_mutex_consistent(robust);
	pthread_mutex_unlock(robust);
	if (!(pid = fork())) { pthread_mutex_lock(robust); _exit(0); }
	waitpid(pid, &st, 0);
	printf("after the other process died: %s\n", strerror(pthread_mutex_lock(robust)));

	sem_t *sem = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sem_init(sem, 1, 0);
	if (!(pid = fork())) { usleep(5000); sem_post(sem); _exit(0); }
	printf("shared semaphore %d\n", sem_wait(sem));
	waitpid(pid, &st, 0);

	struct sigaction sa = { .sa_handler = on_signal };
	sigaction(SIGUSR1, &sa, 0);
	main_thread = pthread_self();
	pthread_create(&t[0], 0, signal_main, 0);
	int r = pause();
	pthread_join(t[0], 0);
	printf("pause %d, signal %d in main %d\n", r, (int)got, pthread_equal(got_in, main_thread));

	fflush(stdout);
	if (!(pid = fork())) { pthread_create(&t[0], 0, forever, 0); pthread_create(&t[1], 0, run_exit, 0); for (;;) pause(); }
	waitpid(pid, &st, 0);
	printf("exit from a thread %x\n", st);
	if (!(pid = fork())) { pthread_create(&t[0], 0, forever, 0); pthread_create(&t[1], 0, run_exec, argv); for (;;) pause(); }
	waitpid(pid, &st, 0);
	printf("exec from a thread %x\n", st);
	if (!(pid = fork())) { pthread_create(&t[0], 0, leave_last, 0); syscall(SYS_exit, 12); }
	waitpid(pid, &st, 0);
	printf("leader first %x\n", st);
	if (!(pid = fork())) { pthread_create(&t[0], 0, forever, 0); usleep(1000); kill(getpid(), SIGTERM); for (;;) pause(); }
	waitpid(pid, &st, 0);
	printf("killed with threads %x\n", st);
	return 0;
}
