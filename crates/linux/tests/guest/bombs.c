/*
 * A leak and a fork bomb, beside somebody who works with memory of its own all the while: the OOM killer
 * takes who takes memory, and the work comes out right.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SHARE = 1 << 20, WORK = 96 << 10 };

static void touch(char *at, long bytes, int what)
{
    for (long i = 0; i < bytes; i += PAGE)
        at[i] = what;
}

static char *take(long bytes)
{
    char *at = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        _exit(3);
    return at;
}

/* Killed so far. */
static long kills(void)
{
    char text[16384], *found;
    int fd = open("/proc/vmstat", O_RDONLY);
    long n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    found = strstr(text, "\noom_kill ");
    return found ? atol(found + 10) : -1;
}

/* Works in rounds until it is told to stop, then tells whether every word was right in all of them. */
static void worker(int told, int tells)
{
    uint32_t *words = (uint32_t *)take(WORK), state = 1, wrong = 0;
    char byte;
    fcntl(told, F_SETFL, O_NONBLOCK);
    for (uint32_t round = 1;; round++) {
        for (int i = 0; i < WORK / 4; i++)
            words[i] = state = state * 1664525 + 1013904223;
        usleep(1000);
        for (int i = WORK / 4 - 1; i >= 0; i--) {
            wrong += words[i] != state;
            /* The generator backwards. */
            state = (state - 1013904223) * 4276115653u;
        }
        wrong += state != round;
        state = round + 1;
        if (read(told, &byte, 1) == 0)
            break;
    }
    write(tells, &wrong, sizeof wrong);
    _exit(0);
}

struct work { int pid, tell, told; };

static struct work begin(void)
{
    int to[2], from[2];
    pipe(to);
    pipe(from);
    struct work work = {fork(), to[1], from[0]};
    if (work.pid == 0) {
        close(to[1]);
        close(from[0]);
        worker(to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    return work;
}

static void end(const char *what, struct work work)
{
    uint32_t wrong = ~0u;
    int status = -1;
    close(work.tell);
    int told = read(work.told, &wrong, sizeof wrong);
    waitpid(work.pid, &status, 0);
    printf("%s: the worker %s, %d words wrong\n", what,
           status == 0 && told == sizeof wrong ? "went on to its end" : "is gone", wrong);
    close(work.told);
}

static void leak(void)
{
    struct work work = begin();
    long before = kills();
    int status = 0, pid = fork();
    if (pid == 0) {
        close(work.tell);
        for (;;)
            touch(take(1 << 20), 1 << 20, 1);
    }
    waitpid(pid, &status, 0);
    printf("leak: %s, killed for memory: %ld\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "ended",
           kills() - before);
    end("leak", work);
}

static void fork_bomb(void)
{
    struct work work = begin();
    long before = kills();
    int pid = fork();
    if (pid == 0) {
        close(work.tell);
        setpgid(0, 0);
        signal(SIGCHLD, SIG_IGN);
        /* Each of them makes another one five times a second, for ever. */
        for (;;) {
            touch(take(SHARE), SHARE, 1);
            while (fork() != 0)
                usleep(200000);
        }
    }
    setpgid(pid, pid);
    while (kills() - before < 8)
        usleep(10000);
    /* What is being born while the others are told is told the next time. */
    int gone = 0;
    while (gone == 0) {
        kill(-pid, SIGKILL);
        for (;;) {
            int found = waitpid(-pid, 0, WNOHANG);
            if (found < 0)
                gone = errno == ECHILD && kill(-pid, 0) < 0;
            if (found <= 0)
                break;
        }
        usleep(1000);
    }
    printf("fork bomb: defused\n");
    end("fork bomb", work);
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    /* The program stays in memory: it is what everybody here runs. */
    if (mlockall(MCL_CURRENT))
        perror("mlockall");
    leak();
    fork_bomb();
    struct work work = begin();
    end("afterwards", work);
    return 0;
}
