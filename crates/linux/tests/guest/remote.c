// Another process's memory (process_vm_readv, process_vm_writev) and files without a name
// (memfd_create, its flags and seals).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 16U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 16
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 32
#endif
#define PAGE 4096L

#define TRY(call) do { errno = 0; long got = (long)(call); \
    printf("%-62s %ld %s\n", #call, got, got < 0 ? strerrorname_np(errno) : "ok"); } while (0)
// Where it lies differs from run to run.
#define MAP(call) do { errno = 0; void *got = (call); \
    printf("%-62s %s\n", #call, got == MAP_FAILED ? strerrorname_np(errno) : "ok"); } while (0)

static char here[4 * PAGE], there[4 * PAGE];

static void remote(void)
{
    int ready[2], go[2];
    if (pipe(ready) || pipe(go))
        exit(1);
    char *area = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    int pid = fork();
    char c = 0;
    if (pid == 0) {
        // The parent's copy does not see this.
        for (long i = 0; i < 4 * PAGE; i++)
            area[i] = i / PAGE + 1;
        mprotect(area + PAGE, PAGE, PROT_READ);
        munmap(area + 2 * PAGE, PAGE);
        write(ready[1], "r", 1);
        read(go[0], &c, 1);
        printf("child: %d %d %d, %s\n", area[0], area[1], area[PAGE], area + 3 * PAGE);
        fflush(stdout);
        _exit(0);
    }
    read(ready[0], &c, 1);
    struct iovec l = { here, 16 }, r = { area, 16 };
    TRY(process_vm_readv(pid, &l, 1, &r, 1, 0));
    printf("read %d, own %d\n", here[0], area[0]);
    struct iovec parts[3] = { { here, 10 }, { here + 100, 0 }, { here + 200, 5 } };
    TRY(process_vm_readv(pid, parts, 3, &r, 1, 0));
    printf("in parts: %d %d %d\n", here[9], here[204], here[205]);
    struct iovec across[2] = { { area + PAGE, PAGE }, { area + 2 * PAGE, PAGE } };
    l.iov_len = sizeof here;
    TRY(process_vm_readv(pid, &l, 1, across, 2, 0));
    TRY(process_vm_readv(pid, &l, 1, across + 1, 1, 0));
    struct iovec into_hole = { area + 2 * PAGE - 8, 16 };
    TRY(process_vm_readv(pid, &l, 1, &into_hole, 1, 0));
    strcpy(here, "written from outside");
    l.iov_len = r.iov_len = 21;
    r.iov_base = area + 3 * PAGE;
    TRY(process_vm_writev(pid, &l, 1, &r, 1, 0));
    r.iov_base = area + PAGE;
    TRY(process_vm_writev(pid, &l, 1, &r, 1, 0));
    TRY(process_vm_readv(pid, &l, 1, &r, 1, 1));
    TRY(process_vm_readv(pid, &l, 1025, &r, 1, 0));
    TRY(process_vm_readv(pid, (struct iovec *)8, 1, &r, 1, 0));
    TRY(process_vm_readv(0x3ffffff, &l, 1, &r, 1, 0));
    l.iov_len = 0;
    TRY(process_vm_readv(0x3ffffff, &l, 1, &r, 1, 0));
    struct iovec bad = { (void *)8, 8 };
    r.iov_base = area;
    TRY(process_vm_readv(pid, &bad, 1, &r, 1, 0));
    bad.iov_len = -1;
    TRY(process_vm_readv(pid, &bad, 1, &r, 1, 0));
    write(go[1], "g", 1);
    waitpid(pid, 0, 0);
    fflush(stdout);
    // Nobody's child, another user: refused.
    pid = fork();
    if (pid == 0) {
        setuid(1000);
        r.iov_len = l.iov_len = 8;
        TRY(process_vm_readv(getppid(), &l, 1, &r, 1, 0));
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, 0, 0);
}

static int seals(int fd) { return fcntl(fd, F_GET_SEALS); }

static void memfd(void)
{
    TRY(memfd_create("x", 0x80) < 0 ? -1 : 0);
    TRY(memfd_create((char *)8, 0) < 0 ? -1 : 0);
    memset(there, 'n', 249), there[249] = 0;
    TRY(memfd_create(there, 0) < 0 ? 0 : 0);
    there[249] = 'n', there[250] = 0;
    TRY(memfd_create(there, 0) < 0 ? -1 : 0);
    TRY(memfd_create("x", MFD_EXEC | MFD_NOEXEC_SEAL) < 0 ? -1 : 0);
    int fd = memfd_create("plain", MFD_CLOEXEC);
    TRY(fcntl(fd, F_GETFD));
    TRY(seals(fd));
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    char path[64], target[64] = "";
    sprintf(path, "/proc/self/fd/%d", fd);
    readlink(path, target, sizeof target - 1);
    printf("%s\n", target);
    close(fd);

    fd = memfd_create("noexec", MFD_NOEXEC_SEAL);
    TRY(seals(fd));
    TRY(fchmod(fd, 0777));
    TRY(fchmod(fd, 0644));
    close(fd);

    fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    TRY(ftruncate(fd, 2 * PAGE));
    TRY(write(fd, "0123456789", 10));
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    TRY(ftruncate(fd, 3 * PAGE));
    TRY(pwrite(fd, "x", 1, 2 * PAGE));
    TRY(pwrite(fd, "xy", 2, 2 * PAGE - 1));
    TRY(fallocate(fd, 0, 0, 3 * PAGE));
    TRY(ftruncate(fd, PAGE));
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    TRY(ftruncate(fd, 0));
    char *shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    shared[1] = 'w';
    TRY(write(fd, "z", 1));
    MAP(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    munmap(shared, PAGE);
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    TRY(write(fd, "z", 1));
    MAP(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    MAP(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    char *readable = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    printf("%.4s\n", readable);
    TRY(mprotect(readable, PAGE, PROT_READ | PROT_WRITE));
    TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    TRY(fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC));
    TRY(seals(fd));
    TRY(fcntl(fd, F_ADD_SEALS, 0x1000));
    TRY(fcntl(0, F_GET_SEALS));
}

int main(void)
{
    remote();
    memfd();
    return 0;
}
