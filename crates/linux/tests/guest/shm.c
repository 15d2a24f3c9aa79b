// System V shared memory: ids, rights, attachments and their count, removal, limits, /proc.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#define PAGE 4096UL
#define KEY 0x4b696c62

static const char *name(int e)
{
    return e ? strerrorname_np(e) : "0";
}

#define TRY(call) do { errno = 0; long r = (long)(call); \
    printf("%-58s %s %s\n", #call, r < 0 ? "-1" : "ok", name(errno)); } while (0)

static struct shmid_ds stat_of(int id)
{
    struct shmid_ds ds;
    memset(&ds, 0xff, sizeof ds);
    if (shmctl(id, IPC_STAT, &ds))
        printf("IPC_STAT: %s\n", name(errno));
    return ds;
}

static unsigned long attached(int id)
{
    return stat_of(id).shm_nattch;
}

// The lines of /proc/self/maps that show segments, addresses relative to `base`.
static void maps(const char *base)
{
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to, offset, inode;
        char rights[8], device[16], path[256] = "";
        sscanf(line, "%lx-%lx %7s %lx %15s %lu %255[^\n]", &from, &to, rights, &offset, device,
               &inode, path);
        if (strstr(path, "SYSV"))
            printf("  +%lx +%lx %s %lx %s %lu %s\n", from - (long)base, to - (long)base, rights,
                   offset, device, inode, path);
    }
    fclose(f);
}

static void in_child(void (*f)(int), int id)
{
    fflush(stdout);
    if (fork() == 0) {
        f(id);
        fflush(stdout);
        _exit(0);
    }
    int status;
    wait(&status);
    printf("child: %x, attached %lu\n", status, attached(id));
}

static void count(int id)
{
    printf("in the child: attached %lu, last user is %s\n", attached(id),
           stat_of(id).shm_lpid == getppid() ? "the parent" : "another");
}

static void ids(void)
{
    TRY(shmget(KEY, 100, 0600));
    int id = shmget(KEY, 5000, IPC_CREAT | 0640);
    printf("first id %d\n", id);
    TRY(shmget(KEY, 100, IPC_CREAT | IPC_EXCL));
    TRY(shmget(KEY, 5001, 0));
    TRY(shmget(KEY, 5000, 0));
    TRY(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600));
    TRY(shmget(IPC_PRIVATE, -1, IPC_CREAT | 0600));
    TRY(shmget(IPC_PRIVATE, 1UL << 63, IPC_CREAT | 0600));
    TRY(shmget(IPC_PRIVATE, 1UL << 62, IPC_CREAT | 0600));
    TRY(shmget(IPC_PRIVATE, PAGE, IPC_CREAT | SHM_HUGETLB | 0600));
    TRY(shmctl(id, IPC_RMID, 0));
    TRY(shmctl(id, IPC_RMID, 0));
    int second = shmget(IPC_PRIVATE, PAGE, 0600);
    printf("second id %d\n", second);
    TRY(shmctl(second + 32768, IPC_RMID, 0));
    TRY(shmctl(-1, IPC_RMID, 0));
    TRY(shmctl(second, 100, 0));
    TRY(shmctl(second, IPC_STAT, (void *)8));
    TRY(shmctl(second, IPC_RMID, 0));
}

static void attachments(void)
{
    int id = shmget(KEY, 3 * PAGE + 1, IPC_CREAT | 0600);
    char *a = shmat(id, 0, 0);
    char *b = shmat(id, 0, SHM_RDONLY);
    printf("two attachments: %lu\n", attached(id));
    strcpy(a, "hello");
    printf("through the other: %s\n", b);
    TRY(mprotect(b, PAGE, PROT_READ | PROT_WRITE));
    TRY(shmat(id, a, 0));
    TRY(shmat(id, a + 1, 0));
    TRY(shmat(id, a + 1, SHM_RND));
    TRY(shmat(id, 0, SHM_REMAP));
    TRY(shmat(id, (void *)-PAGE, 0));
    TRY(shmat(id, a + 1, SHM_RND | SHM_REMAP));
    printf("replaced: %lu\n", attached(id));
    in_child(count, id);
    maps(a);
    TRY(munmap(a + PAGE, PAGE));
    printf("a hole: %lu\n", attached(id));
    TRY(mprotect(a, PAGE, PROT_READ));
    maps(a);
    TRY(shmdt(a + PAGE));
    TRY(shmdt(a + 1));
    TRY(shmdt(a));
    printf("detached: %lu\n", attached(id));
    TRY(shmdt(a));
    b = mremap(b, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b - (64 << 20));
    printf("moved: %lu %s\n", attached(id), b);
    maps(b);
    struct shmid_ds ds = stat_of(id);
    printf("size %zu mode %o creator %d last %d times %d %d %d\n", ds.shm_segsz, ds.shm_perm.mode,
           ds.shm_cpid == getpid(), ds.shm_lpid == getpid(), ds.shm_atime > 0, ds.shm_dtime > 0,
           ds.shm_ctime > 0);
    TRY(shmctl(id, IPC_RMID, 0));
    ds = stat_of(id);
    printf("removed: mode %o key %x attached %lu\n", ds.shm_perm.mode, ds.shm_perm.__key,
           ds.shm_nattch);
    TRY(shmget(KEY, 0, 0));
    char *c = shmat(id, 0, 0);
    printf("attached again: %s\n", c);
    maps(c);
    TRY(shmdt(b));
    TRY(shmat(id, c, SHM_REMAP));
    printf("its last area replaced by itself: %s\n", c);
    TRY(shmdt(c));
    TRY(shmat(id, 0, 0));
}

static void other_user(int id)
{
    struct shmid_ds ds = { .shm_perm = { .uid = 1000, .gid = 1000, .mode = 0666 } };
    setgid(1000);
    setuid(1000);
    TRY(shmat(id, 0, 0));
    TRY(shmat(id, 0, SHM_RDONLY));
    TRY(shmat(id, 0, SHM_RDONLY | SHM_EXEC));
    TRY(shmget(KEY, 0, 0600));
    TRY(shmget(KEY, 0, 0004));
    TRY(shmctl(id, IPC_SET, &ds));
    TRY(shmctl(id, IPC_RMID, 0));
    TRY(shmctl(id, SHM_LOCK, 0));
    TRY(shmctl(id, SHM_UNLOCK, 0));
    int own = shmget(IPC_PRIVATE, 64 * PAGE, 0);
    TRY(shmat(own, 0, 0));
    TRY(shmctl(own, IPC_STAT, &ds));
    struct rlimit limit = { 63 * PAGE, 63 * PAGE };
    setrlimit(RLIMIT_MEMLOCK, &limit);
    TRY(shmctl(own, SHM_LOCK, 0));
    limit.rlim_cur = limit.rlim_max = 0;
    setrlimit(RLIMIT_MEMLOCK, &limit);
    TRY(shmctl(own, SHM_LOCK, 0));
    TRY(shmctl(own, SHM_UNLOCK, 0));
    TRY(shmctl(own, IPC_RMID, 0));
}

static void rights(void)
{
    int id = shmget(KEY, PAGE, IPC_CREAT | 0604);
    in_child(other_user, id);
    struct shmid_ds ds = stat_of(id);
    ds.shm_perm.mode = 07760;
    ds.shm_perm.uid = -1;
    TRY(shmctl(id, IPC_SET, &ds));
    ds.shm_perm.uid = 1000;
    ds.shm_perm.gid = 7;
    TRY(shmctl(id, IPC_SET, &ds));
    ds = stat_of(id);
    printf("owner %d %d creator %d %d mode %o\n", ds.shm_perm.uid, ds.shm_perm.gid,
           ds.shm_perm.cuid, ds.shm_perm.cgid, ds.shm_perm.mode);
    TRY(shmctl(id, SHM_LOCK, 0));
    printf("locked: mode %o\n", stat_of(id).shm_perm.mode);
    TRY(shmctl(id, SHM_UNLOCK, 0));
    printf("unlocked: mode %o\n", stat_of(id).shm_perm.mode);
    TRY(shmctl(id, IPC_RMID, 0));
}

static void last_user_exits(int id)
{
    char *at = shmat(id, 0, 0);
    shmctl(id, IPC_RMID, 0);
    at[0] = 1;
    printf("attached %lu\n", attached(id));
}

static void information(void)
{
    int id = shmget(KEY, 2 * PAGE + 1, IPC_CREAT | 0600);
    char *at = shmat(id, 0, 0);
    at[PAGE] = 1;
    struct shminfo limits;
    struct shm_info used;
    TRY(shmctl(0, IPC_INFO, (void *)&limits));
    printf("max %lx min %lu mni %lu seg %lu all %lx\n", limits.shmmax, limits.shmmin,
           limits.shmmni, limits.shmseg, limits.shmall);
    int highest = shmctl(0, SHM_INFO, (void *)&used);
    printf("used %d total %lu resident %lu\n", used.used_ids, used.shm_tot, used.shm_rss);
    struct shmid_ds ds;
    printf("SHM_STAT %d, SHM_STAT_ANY %d\n", shmctl(highest, SHM_STAT, &ds) == id,
           shmctl(highest, SHM_STAT_ANY, &ds) == id);
    TRY(shmctl(highest + 1, SHM_STAT, &ds));
    char line[512];
    FILE *f = fopen("/proc/sysvipc/shm", "r");
    while (f && fgets(line, sizeof line, f)) {
        int key, shmid, mode, cpid, lpid, nattch, uid, gid, cuid, cgid;
        long size, atime, dtime, ctime, rss, swap;
        if (sscanf(line, "%d %d %o %ld %d %d %d %d %d %d %d %ld %ld %ld %ld %ld", &key, &shmid,
                   &mode, &size, &cpid, &lpid, &nattch, &uid, &gid, &cuid, &cgid, &atime, &dtime,
                   &ctime, &rss, &swap) == 16)
            printf("%x %d %o %ld %d %d %d %d %d %d %d %ld %ld, %zu bytes\n", key, shmid == id, mode,
                   size, cpid == getpid(), lpid == getpid(), nattch, uid, gid, cuid, cgid, rss,
                   swap, strlen(line));
        else
            fputs(line, stdout);
    }
    if (f)
        fclose(f);
    shmdt(at);
    shmctl(id, IPC_RMID, 0);
    id = shmget(IPC_PRIVATE, PAGE, 0600);
    fflush(stdout);
    if (fork() == 0) {
        last_user_exits(id);
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    TRY(shmctl(id, IPC_STAT, &ds));
}

int main(void)
{
    ids();
    attachments();
    rights();
    information();
    return 0;
}
