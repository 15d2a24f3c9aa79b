/* Who goes when memory does: the process that has most, counting what it says of itself. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, CHUNK = 1 << 20 };

static long total;

static void take(long bytes)
{
    for (long taken = 0; taken < bytes; taken += CHUNK) {
        char *at = mmap(0, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            _exit(3);
        for (int i = 0; i < CHUNK; i += PAGE)
            at[i] = 1;
    }
}

static void adjust(const char *by)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    if (write(fd, by, strlen(by)) < 0)
        perror("oom_score_adj");
    close(fd);
}

/* A child that takes a share of all memory, in percent, tells through the pipe, and waits. */
static int child(int percent, const char *by)
{
    int ready[2];
    char byte = 0;
    pipe(ready);
    int pid = fork();
    if (pid == 0) {
        adjust(by);
        take(total / 100 * percent);
        write(ready[1], &byte, 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    /* Nothing comes from one that is killed meanwhile. */
    read(ready[0], &byte, 1);
    close(ready[0]);
    return pid;
}

/* How it ended, if it did. */
static const char *fate(int pid)
{
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == 0)
        return "goes on";
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? "killed" : "ended otherwise";
}

static void act(const char *what, int greedy_percent, const char *greedy_by, int first, const char *first_by,
                int second, const char *second_by)
{
    int a = child(first, first_by), b = child(second, second_by);
    int greedy = child(greedy_percent, greedy_by);
    const char *of_a = fate(a), *of_b = fate(b), *of_greedy = fate(greedy);
    printf("%s: the first %s, the second %s, the greedy one %s\n", what, of_a, of_b, of_greedy);
    int pids[] = {a, b, greedy};
    for (int i = 0; i < 3; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], 0, 0);
    }
}

int main(void)
{
    char line[64];
    FILE *meminfo = fopen("/proc/meminfo", "r");
    while (fgets(line, sizeof line, meminfo))
        if (sscanf(line, "MemAvailable: %ld kB", &total) == 1)
            total *= 1024;
    fclose(meminfo);
    setvbuf(stdout, 0, _IONBF, 0);
    /* The pages of the processes' program count as well: shares are far apart. */
    act("nobody says anything", 60, "0", 35, "0", 15, "0");
    act("the second offers itself", 60, "0", 35, "0", 15, "800");
    act("the greedy one may not go", 60, "-1000", 35, "0", 10, "0");
    act("the first is spared", 40, "0", 50, "-500", 20, "0");
    printf("the parent goes on\n");
    return 0;
}
