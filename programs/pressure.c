/*
 * Works on more memory than a small machine has, and says what came of it: the same lines on every
 * machine that loses nothing, however little memory it has.
 *
 *     pressure sort MIB      fills memory with numbers, sorts them, checks the order
 *     pressure tree MIB      a parent's dirty pages shared down two generations of forks, each of
 *                            which changes its part and checks all others
 *     pressure shared MIB    four processes fill one shared mapping in turns, then check it
 *     pressure file MIB      a file written through a mapping, read through calls, and the reverse
 *     pressure again MIB     reads what `file` left, for a second look after the pages went
 *     pressure told MIB      writes to a file in a place where writing back fails, and tells who is
 *                            told of it, and whether the bytes are still there
 *     pressure off MIB       switches /dev/zram0 off and on while three children change memory that is
 *                            partly there and partly shared, which they check then
 *     pressure leak MIB      takes memory until it has MIB, writing to all of it
 *     pressure bomb MIB      forks children that each take MIB, and tells how they ended
 */
#include "guest.h"

#define PAGE 4096
#define WORDS (PAGE / 8)

static uint64_t mix(uint64_t x)
{
    x = (x + 1) * 0x9e3779b97f4a7c15ULL;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ULL;
    return x ^ x >> 32;
}

static const char path[] = "kilburn-pressure";

static void fail(const char *what, long error)
{
    print("%s: error %ld\n", what, -error);
    sys_exit(1);
}

static uint64_t *map(ulong bytes, int flags, int fd)
{
    void *at = sys_mmap(bytes, PROT_READ | PROT_WRITE, flags, fd);
    if ((ulong)at > -(ulong)PAGE)
        fail("mmap", (long)at);
    return at;
}

static uint64_t *anonymous(ulong bytes, int kind)
{
    return map(bytes, kind | MAP_ANONYMOUS, -1);
}

/* One word for all of them, in order. */
static uint64_t sum(const uint64_t *words, ulong count)
{
    uint64_t all = 0;
    for (ulong i = 0; i < count; i++)
        all = (all ^ words[i]) * 0x100000001b3ULL;
    return all;
}

/* ---- sort ----------------------------------------------------------------------------------- */

/* Merges two sorted runs that lie side by side. */
static void merge(const uint64_t *from, uint64_t *to, ulong left, ulong middle, ulong right)
{
    for (ulong a = left, b = middle, i = left; i < right; i++)
        to[i] = b >= right || (a < middle && from[a] <= from[b]) ? from[a++] : from[b++];
}

static int sort(ulong bytes)
{
    ulong count = bytes / 16;
    uint64_t *from = anonymous(bytes / 2, MAP_PRIVATE), *to = anonymous(bytes / 2, MAP_PRIVATE);
    for (ulong i = 0; i < count; i++)
        from[i] = mix(i);
    for (ulong run = 1; run < count; run *= 2) {
        for (ulong at = 0; at < count; at += 2 * run) {
            ulong middle = at + run < count ? at + run : count;
            ulong end = at + 2 * run < count ? at + 2 * run : count;
            merge(from, to, at, middle, end);
        }
        uint64_t *swapped = from;
        from = to;
        to = swapped;
    }
    ulong wrong = 0;
    for (ulong i = 1; i < count; i++)
        wrong += from[i - 1] > from[i];
    print("sort: %lu numbers, %lu out of order, %lx\n", count, wrong, (ulong)sum(from, count));
    return wrong != 0;
}

/* ---- tree ----------------------------------------------------------------------------------- */

enum { CHILDREN = 3, PARTS = 16 };

/* What a word holds that the process with this name wrote last; 0 is the first process. */
static uint64_t word_of(ulong name, ulong i)
{
    return mix(i ^ name << 48);
}

/* Words of part `part` that are not what `name` wrote. */
static ulong wrong_in(const uint64_t *words, ulong count, ulong part, ulong name)
{
    ulong wrong = 0, len = count / PARTS;
    for (ulong i = part * len; i < (part + 1) * len; i++)
        wrong += words[i] != word_of(name, i);
    return wrong;
}

static void write_part(uint64_t *words, ulong count, ulong part, ulong name)
{
    ulong len = count / PARTS;
    for (ulong i = part * len; i < (part + 1) * len; i++)
        words[i] = word_of(name, i);
}

/* The process `name` writes its own part, forks, and checks everything; how many words were wrong,
 * at most 100. `owners` says who wrote which part. */
static int branch(uint64_t *words, ulong count, ulong name, unsigned char *owners, int depth)
{
    ulong part = name % PARTS, wrong = 0;
    int pids[CHILDREN];
    write_part(words, count, part, name);
    owners[part] = name;
    for (int i = 0; depth > 0 && i < CHILDREN; i++) {
        pids[i] = sys_fork();
        if (pids[i] < 0)
            fail("fork", pids[i]);
        if (pids[i] == 0)
            sys_exit(branch(words, count, name * CHILDREN + i + 1, owners, depth - 1));
    }
    for (ulong p = 0; p < PARTS; p++)
        wrong += wrong_in(words, count, p, owners[p]);
    for (int i = 0; depth > 0 && i < CHILDREN; i++) {
        int status = 0;
        sys_wait(pids[i], &status);
        wrong += status == 0 ? 0 : status & 0x7f ? 100 : status >> 8;
    }
    return wrong > 100 ? 100 : wrong;
}

static int tree(ulong bytes)
{
    static unsigned char owners[PARTS];
    ulong count = bytes / 8;
    uint64_t *words = anonymous(bytes, MAP_PRIVATE);
    for (ulong part = 0; part < PARTS; part++)
        write_part(words, count, part, 0);
    int wrong = branch(words, count, 0, owners, 2);
    print("tree: %lu words in 13 processes, %ld wrong, %lx\n", count, (long)wrong,
          (ulong)sum(words, count));
    return wrong != 0;
}

/* ---- shared --------------------------------------------------------------------------------- */

static int shared(ulong bytes)
{
    ulong count = bytes / 8, wrong = 0;
    uint64_t *words = anonymous(bytes, MAP_SHARED);
    for (ulong who = 0; who < 4; who++) {
        int pid = sys_fork();
        if (pid < 0)
            fail("fork", pid);
        if (pid == 0) {
            /* Every fourth page is this one's; the pages of those before must be there. */
            for (ulong i = 0; i < count; i++) {
                ulong owner = i / WORDS % 4;
                if (owner == who)
                    words[i] = word_of(who, i);
                else if (owner < who)
                    wrong += words[i] != word_of(owner, i);
            }
            sys_exit(wrong > 100 ? 100 : wrong);
        }
        int status = 0;
        sys_wait(pid, &status);
        wrong += status == 0 ? 0 : status & 0x7f ? 100 : status >> 8;
    }
    for (ulong i = 0; i < count; i++)
        wrong += words[i] != word_of(i / WORDS % 4, i);
    print("shared: %lu words, %lu wrong, %lx\n", count, wrong, (ulong)sum(words, count));
    return wrong != 0;
}

/* ---- file ----------------------------------------------------------------------------------- */

static uint64_t page_words[WORDS];

/* Writes back what is dirty, however often that fails. */
static void persist(int fd)
{
    long error = -1;
    for (int i = 0; error && i < 200; i++)
        error = syscall(SYS_fsync, fd, 0, 0);
    if (error)
        fail("fsync", error);
}

static ulong wrong_in_file(int fd, ulong pages, ulong name)
{
    ulong wrong = 0;
    for (ulong page = 0; page < pages; page++) {
        long got = sys_pread(fd, page_words, PAGE, page * PAGE);
        if (got != PAGE)
            fail("pread", got);
        for (ulong i = 0; i < WORDS; i++)
            wrong += page_words[i] != word_of(name, page * WORDS + i);
    }
    return wrong;
}

static int file(ulong bytes)
{
    ulong pages = bytes / PAGE, wrong = 0;
    int fd = sys_open(path, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        fail(path, fd);
    long error = sys_ftruncate(fd, bytes);
    if (error)
        fail("ftruncate", error);
    uint64_t *words = map(bytes, MAP_SHARED, fd);
    for (ulong i = 0; i < pages * WORDS; i++)
        words[i] = word_of(1, i);
    wrong += wrong_in_file(fd, pages, 1);
    for (ulong page = 0; page < pages; page++) {
        for (ulong i = 0; i < WORDS; i++)
            page_words[i] = word_of(2, page * WORDS + i);
        long put = sys_pwrite(fd, page_words, PAGE, page * PAGE);
        if (put != PAGE)
            fail("pwrite", put);
    }
    for (ulong i = 0; i < pages * WORDS; i++)
        wrong += words[i] != word_of(2, i);
    print("file: %lu pages, %lu words wrong, %lx\n", pages, wrong,
          (ulong)sum(words, pages * WORDS));
    persist(fd);
    sys_close(fd);
    return wrong != 0;
}

static int again(ulong bytes)
{
    int fd = sys_open(path, O_RDWR);
    if (fd < 0)
        fail(path, fd);
    ulong wrong = wrong_in_file(fd, bytes / PAGE, 2);
    print("again: %lu pages, %lu words wrong\n", bytes / PAGE, wrong);
    return wrong != 0;
}

/* ---- told ----------------------------------------------------------------------------------- */

static long wait_for_writing(int fd)
{
    return syscall6(SYS_sync_file_range, fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE, 0, 0);
}

static int told(ulong bytes)
{
    ulong pages = bytes / PAGE;
    int writer = sys_open(path, O_RDWR | O_CREAT | O_TRUNC), other = sys_open(path, O_RDWR);
    if (writer < 0 || other < 0)
        fail(path, writer);
    for (ulong i = 0; i < WORDS; i++)
        page_words[i] = word_of(1, i);
    for (ulong page = 0; page < pages; page++)
        sys_pwrite(writer, page_words, PAGE, page * PAGE);
    long synced = syscall(SYS_fsync, writer, 0, 0);
    print("told: fsync %ld; the same file, waiting: %ld\n", synced, wait_for_writing(writer));
    print("told: another open file, waiting: %ld,", wait_for_writing(other));
    print(" again: %ld\n", wait_for_writing(other));
    int late = sys_open(path, O_RDWR);
    print("told: opened since, waiting: %ld\n", wait_for_writing(late));
    uint64_t *words = map(bytes, MAP_SHARED, other);
    words[0]++;
    print("told: msync %ld,", syscall(SYS_msync, words, bytes, MS_SYNC));
    print(" the file it maps, waiting: %ld,", wait_for_writing(other));
    print(" the first one: %ld\n", wait_for_writing(writer));
    words[0]--;
    ulong wrong = 0;
    for (ulong i = 0; i < pages * WORDS; i++)
        wrong += words[i] != word_of(1, i % WORDS);
    print("told: %lu words wrong\n", wrong);
    return wrong != 0;
}

/* ---- off ------------------------------------------------------------------------------------ */

/* Changes its own memory, and its part of what all share, again and again. */
static int keep_changing(uint64_t *own, uint64_t *all, ulong count, ulong who, int rounds)
{
    ulong wrong = 0;
    for (int round = 1; round <= rounds; round++) {
        ulong name = who * 100 + round;
        for (ulong i = 0; i < count; i++)
            own[i] = word_of(name, i);
        for (ulong i = who; i < count; i += 3)
            all[i] = word_of(name, i);
        for (ulong i = 0; i < count; i++)
            wrong += own[i] != word_of(name, i);
        for (ulong i = who; i < count; i += 3)
            wrong += all[i] != word_of(name, i);
    }
    return wrong > 100 ? 100 : wrong;
}

static int off(ulong bytes)
{
    static const char area[] = "/dev/zram0";
    enum { COUNT = 3, ROUNDS = 4 };
    ulong count = bytes / (COUNT + 2) / 8, home = 0, refused = 0, other = 0;
    uint64_t *own = anonymous(count * 8, MAP_PRIVATE), *all = anonymous(count * 8, MAP_SHARED);
    for (ulong i = 0; i < count; i++)
        own[i] = word_of(0, i);
    int pids[COUNT], running = COUNT, wrong = 0;
    for (int i = 0; i < COUNT; i++) {
        pids[i] = sys_fork();
        if (pids[i] < 0)
            fail("fork", pids[i]);
        if (pids[i] == 0)
            sys_exit(keep_changing(own, all, count, i, ROUNDS));
    }
    while (running) {
        int status = 0;
        long pid = syscall6(SYS_wait4, -1, (long)&status, WNOHANG, 0, 0, 0);
        if (pid > 0) {
            running--;
            wrong += status == 0 ? 0 : status & 0x7f ? 100 : status >> 8;
        }
        long answer = syscall(SYS_swapoff, area, 0, 0);
        home += answer == 0;
        refused += answer == -12;
        other += answer != 0 && answer != -12;
        if (answer == 0)
            other += syscall(SYS_swapon, area, 0, 0) != 0;
        for (int i = 0; i < 20; i++)
            syscall(SYS_sched_yield, 0, 0, 0);
    }
    /* What the children changed was theirs; this is the first process's still. */
    for (ulong i = 0; i < count; i++)
        wrong += own[i] != word_of(0, i);
    for (ulong i = 0; i < count; i++)
        wrong += all[i] != word_of(i % COUNT * 100 + ROUNDS, i);
    print("off: %ld words wrong; all came home: %s, no room: %s, other answers: %lu\n", (long)wrong,
          home ? "yes" : "never", refused ? "yes" : "never", other);
    return wrong != 0 || other != 0;
}

/* ---- too much ------------------------------------------------------------------------------- */

static int leak(ulong bytes)
{
    for (ulong taken = 0; taken < bytes; taken += 1 << 20) {
        uint64_t *words = anonymous(1 << 20, MAP_PRIVATE);
        for (ulong i = 0; i < (1 << 20) / 8; i++)
            words[i] = mix(taken + i);
    }
    print("leak: %lu MiB\n", bytes >> 20);
    return 0;
}

static int bomb(ulong bytes)
{
    enum { COUNT = 6 };
    int pids[COUNT], killed = 0, ended = 0;
    for (int i = 0; i < COUNT; i++) {
        pids[i] = sys_fork();
        if (pids[i] == 0)
            sys_exit(leak(bytes));
    }
    for (int i = 0; i < COUNT; i++) {
        int status = 0;
        if (pids[i] > 0 && sys_wait(pids[i], &status) > 0) {
            killed += (status & 0x7f) == 9;
            ended += status == 0;
        }
    }
    print("bomb: %s killed, %s of the rest done, the parent goes on\n", killed ? "some" : "none",
          killed + ended == COUNT ? "all" : "not all");
    return killed + ended != COUNT;
}

static const struct { const char *name; int (*work)(ulong bytes); } works[] = {
    { "sort", sort }, { "tree", tree }, { "shared", shared }, { "file", file }, { "again", again },
    { "told", told }, { "off", off },
    { "leak", leak }, { "bomb", bomb },
};

static int same(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return *a == *b;
}

static int guest_main(int argc, char **argv)
{
    int failed = argc < 3;
    for (int arg = 1; arg + 1 < argc; arg += 2) {
        ulong mib = 0, known = 0;
        for (const char *s = argv[arg + 1]; *s >= '0' && *s <= '9'; s++)
            mib = mib * 10 + (*s - '0');
        for (ulong i = 0; mib && i < sizeof works / sizeof works[0]; i++) {
            if (same(argv[arg], works[i].name)) {
                failed |= works[i].work(mib << 20);
                known = 1;
            }
        }
        failed |= !known;
    }
    if (failed)
        print("pressure: something was wrong, or: pressure WORK MIB [WORK MIB...]\n");
    return failed;
}
