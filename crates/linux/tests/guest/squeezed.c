/* A process in a control group that holds a quarter of what it works on: it finishes with the same result
 * on swap, and without swap it is the one that goes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "need_swap.h"

enum { PAGE = 4096, MIB = 1 << 20, WORDS = 4 * MIB / 8 };

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        perror(path);
    close(fd);
}

static long number(const char *path, const char *name)
{
    static char text[1 << 16];
    int fd = open(path, O_RDONLY);
    long n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < 0)
        return -1;
    text[n] = 0;
    char *at = *name ? strstr(text, name) : text;
    return at ? atol(at + strlen(name)) : -1;
}

/* Writes, mixes and sums the words, in an order that knows no neighbours. */
static uint64_t work(uint64_t seed)
{
    uint64_t *words = mmap(0, WORDS * 8, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), x = seed, sum = 0;
    for (int i = 0; i < WORDS; i++)
        words[i] = x = x * 6364136223846793005 + 1442695040888963407;
    for (int i = 0; i < 6000; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        uint64_t *a = words + (x >> 20) % WORDS, *b = words + (x >> 40) % WORDS, t = *a;
        *a = *b ^ x;
        *b = t + i;
    }
    for (int i = 0; i < WORDS; i++)
        sum = sum * 31 + words[i];
    munmap(words, WORDS * 8);
    return sum;
}

static pid_t start(const char *group, uint64_t seed, const char *name)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid)
        return pid;
    char path[64];
    snprintf(path, sizeof path, "/c/%s/cgroup.procs", group);
    put(path, "0");
    uint64_t sum = work(seed);
    printf("%s: %016lx\n", name, (long)sum);
    fflush(stdout);
    _exit(0);
}

static void end(pid_t pid, const char *name)
{
    int status;
    waitpid(pid, &status, 0);
    printf("%s: status %x\n", name, status);
}

int main(void)
{
    need_swap();
    mkdir("/c", 0755);
    if (mount("none", "/c", "cgroup2", 0, 0))
        perror("mount");
    put("/c/cgroup.subtree_control", "+memory");
    mkdir("/c/tight", 0755), mkdir("/c/wide", 0755);
    end(start("wide", 7, "with room"), "with room");
    put("/c/tight/memory.max", "1M");
    end(start("tight", 7, "a quarter"), "a quarter");
    printf("peak %d, swapped %d, killed %ld\n", number("/c/tight/memory.peak", "") <= MIB,
           number("/c/tight/memory.swap.peak", "") >= 3 * MIB - 65536,
           number("/c/tight/memory.events", "oom_kill "));
    printf("steals %d, faults %d\n", number("/c/tight/memory.stat", "\npgsteal ") > 700,
           number("/c/tight/memory.stat", "\npgmajfault ") > 100);
    printf("others: swapped %ld\n", number("/c/wide/memory.swap.peak", ""));
    put("/c/tight/memory.swap.max", "0");
    pid_t doomed = start("tight", 7, "without swap"), other = start("wide", 9, "the other");
    end(other, "the other");
    end(doomed, "without swap");
    printf("killed %ld and %ld\n", number("/c/tight/memory.events", "oom_kill "),
           number("/c/wide/memory.events", "oom_kill "));
    put("/c/tight/memory.swap.max", "2M");
    end(start("tight", 7, "too little swap"), "too little swap");
    printf("swap %d, refused %d\n", number("/c/tight/memory.swap.peak", "") > 0,
           number("/c/tight/memory.swap.events", "max ") > 0);
    printf("%d %d\n", rmdir("/c/tight"), rmdir("/c/wide"));
    return 0;
}
