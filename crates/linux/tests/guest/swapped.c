/* What mincore, pagemap and smaps say of pages that are in swap, and of pages that came back. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "need_swap.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
enum { PAGES = 8, PAGE = 4096 };

static long field(const char *at, const char *name)
{
    static char text[1 << 16];
    int fd = open("/proc/self/smaps", O_RDONLY), len = 0, got;
    while ((got = read(fd, text + len, sizeof text - 1 - len)) > 0)
        len += got;
    text[len] = 0;
    close(fd);
    char start[32];
    snprintf(start, sizeof start, "\n%lx-", (unsigned long)at);
    char *line = strstr(text, start);
    if (!line || !(line = strstr(line, name)))
        return -1;
    return atol(line + strlen(name) + 1);
}

/* Linux reads ahead what several processes have in swap: what mincore says of it then is a guess. */
static int tell_mincore = 1;

static void show(const char *when, char *at)
{
    unsigned char in[PAGES];
    uint64_t map[PAGES];
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (mincore(at, PAGES * PAGE, in) || pread(fd, map, sizeof map, (uintptr_t)at / PAGE * 8) != sizeof map)
        perror("mincore, pagemap");
    close(fd);
    printf("%-28s mincore ", when);
    for (int i = 0; i < PAGES; i++)
        putchar(!tell_mincore ? '?' : in[i] & 1 ? '#' : '.');
    printf(" pagemap ");
    for (int i = 0; i < PAGES; i++)
        putchar(map[i] >> 63 ? 'P' : map[i] >> 62 & 1 ? 'S' : '.');
    printf(" file/shared ");
    for (int i = 0; i < PAGES; i++)
        putchar(map[i] >> 61 & 1 ? 'f' : '.');
    printf(" only here ");
    for (int i = 0; i < PAGES; i++)
        putchar(map[i] >> 56 & 1 ? 'x' : '.');
    printf(" Rss %ld Pss %ld Anonymous %ld Swap %ld SwapPss %ld\n", field(at, "\nRss:"), field(at, "\nPss:"),
           field(at, "\nAnonymous:"), field(at, "\nSwap:"), field(at, "\nSwapPss:"));
}

static char *area(int kind)
{
    /* Guard areas on both sides: it merges with nothing. */
    char *at = mmap(0, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mmap(at + PAGE, PAGES * PAGE, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void fill(char *at, int pages)
{
    for (int i = 0; i < pages; i++)
        memset(at + i * PAGE, 'a' + i, PAGE);
}

static void out(char *at, int pages)
{
    if (madvise(at, pages * PAGE, MADV_PAGEOUT))
        perror("MADV_PAGEOUT");
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    need_swap();

    puts("private memory");
    char *at = area(MAP_PRIVATE);
    fill(at, 6);
    show("six pages written", at);
    out(at, 4);
    show("four of them out", at);
    if (at[PAGE] != 'b')
        puts("wrong byte");
    show("the second read again", at);
    at[2 * PAGE] = 'x';
    show("the third written again", at);
    out(at, PAGES);
    show("all out", at);

    puts("shared by a fork");
    tell_mincore = 0;
    int pid = fork();
    if (pid == 0) {
        show("the child", at);
        at[0] = 'C';
        show("the child wrote the first", at);
        _exit(at[PAGE] != 'b' || at[2 * PAGE] != 'x');
    }
    int status;
    waitpid(pid, &status, 0);
    printf("the child ended with %d, the first page is %c here\n", status, at[0]);
    show("the parent afterwards", at);
    munmap(at, 2 * PAGE);
    mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ);
    printf("what is left: %c%c%c\n", at[2 * PAGE], at[3 * PAGE], at[4 * PAGE]);

    tell_mincore = 1;
    puts("locked memory");
    at = area(MAP_PRIVATE);
    fill(at, PAGES);
    mlock(at, 2 * PAGE);
    errno = 0;
    int answer = madvise(at, PAGES * PAGE, MADV_PAGEOUT);
    printf("MADV_PAGEOUT over locked pages: %d %s\n", answer, strerror(errno));
    munlock(at, 2 * PAGE);

    puts("no longer wanted");
    at = area(MAP_PRIVATE);
    fill(at, PAGES);
    out(at, PAGES);
    show("all out", at);
    madvise(at, 4 * PAGE, MADV_DONTNEED);
    show("four given up", at);
    printf("%d %c\n", at[0], at[4 * PAGE]);
    char *moved = mremap(at + 4 * PAGE, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
    printf("moved: %c%c%c%c\n", moved[0], moved[PAGE], moved[2 * PAGE], moved[3 * PAGE]);
    return 0;
}
