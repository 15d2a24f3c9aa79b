/* Sleeps, works, and says what the clocks showed. */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static volatile int rang;

static void ring(int signal)
{
    rang++;
}

int main(void)
{
    printf("year %lld\n", 1970 + now(CLOCK_REALTIME) / 1000000000 / 31556952);
    long long start = now(CLOCK_MONOTONIC);
    nanosleep(&(struct timespec) { 2, 500000000 }, NULL);
    printf("slept %lld ms\n", (now(CLOCK_MONOTONIC) - start) / 1000000);
    signal(SIGALRM, ring);
    setitimer(ITIMER_REAL, &(struct itimerval) { .it_value = { 3, 0 } }, NULL);
    start = now(CLOCK_REALTIME);
    pause();
    printf("alarm %d after %lld ms\n", rang, (now(CLOCK_REALTIME) - start) / 1000000);
    return 0;
}
