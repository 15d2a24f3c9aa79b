/* Ends in the way its argument names, and leaves behind whatever it can. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

#define CHECK(what) do { if ((long)(what) < 0) { \
    printf("%s: %s\n", #what, strerrorname_np(errno)); exit(1); } } while (0)

/* 10,000 descriptors of 2,000 files of the host, some mapped, locked, deleted, sent away. */
static void many_files(void)
{
    struct rlimit limit = { 20000, 20000 };
    char name[32];
    int fd = -1, pair[2];

    CHECK(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "/files/%d", i % 2000);
        CHECK(fd = open(name, O_RDWR | O_CREAT, 0600));
        if (i >= 2000)
            continue;
        CHECK(ftruncate(fd, 4096));
        if (i % 10 == 0) {
            char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            CHECK(page == MAP_FAILED ? -1 : 0);
            page[i] = 1;
        }
        if (i % 10 == 1)
            CHECK(flock(fd, LOCK_EX));
        if (i % 10 == 2)
            CHECK(unlink(name));
    }
    /* In a message that nobody receives, on a socket that goes with it. */
    struct iovec part = { "x", 1 };
    char control[CMSG_SPACE(sizeof fd)] = { 0 };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    *rights = (struct cmsghdr) { CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(rights), &pair[1], sizeof fd);
    CHECK(sendmsg(pair[0], &header, 0));
}

/* Everything else that a descriptor can be. */
static void many_kinds(void)
{
    int pair[2], epoll, fd;
    sigset_t set;
    struct epoll_event event = { EPOLLIN };
    struct sockaddr_in any = { AF_INET };
    struct rlimit limit = { 4096, 4096 };

    CHECK(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK(epoll = epoll_create1(0));
    sigfillset(&set);
    for (int i = 0; i < 80; i++) {
        CHECK(fd = syscall(SYS_memfd_create, "x", 0));
        CHECK(ftruncate(fd, 1 << 20));
        CHECK(pwrite(fd, "y", 1, 70000));
        CHECK(pipe(pair));
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event));
        CHECK(write(pair[1], "y", 1));
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[1], &event));
        CHECK(write(pair[0], "y", 1));
        CHECK(fd = socket(AF_INET, SOCK_STREAM, 0));
        CHECK(bind(fd, (void *)&any, sizeof any));
        CHECK(listen(fd, 3));
        CHECK(socket(AF_INET6, SOCK_DGRAM, 0));
        CHECK(fd = eventfd(0, 0));
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
        CHECK(timerfd_create(CLOCK_MONOTONIC, 0));
        CHECK(signalfd(-1, &set, 0));
        CHECK(syscall(SYS_pidfd_open, getpid(), 0));
        CHECK(open("/tmp", O_TMPFILE | O_RDWR, 0600));
        CHECK(open("/proc/self/maps", O_RDONLY));
        CHECK(open("/", O_PATH));
    }
    fd = shmget(IPC_PRIVATE, 1 << 20, 0600);
    CHECK(fd);
    memset(shmat(fd, NULL, 0), 1, 1 << 20);
}

static void *waits(void *unused)
{
    pause();
    return unused;
}

static void *spins(void *unused)
{
    for (;;)
        ;
    return unused;
}

static void threads(int n, void *(*what)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (int i = 0; i < n; i++)
        if (pthread_create(&thread, &attributes, what, NULL))
            exit(2);
}

static void processes(int n)
{
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        CHECK(pid);
        if (!pid) {
            malloc(i);
            pause();
        }
    }
}

static void answers(int signal)
{
    static int n;
    if (++n == 20000)
        kill(getpid(), SIGKILL);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval) { n });
}

static void storm(void)
{
    signal(SIGUSR1, answers);
    signal(SIGRTMIN, answers);
    raise(SIGUSR1);
    for (;;)
        pause();
}

static int deep(volatile char *above)
{
    volatile char here[1000];
    here[0] = above[0] + 1;
    return deep(here) + here[0];
}

/* Writes functions and calls them: in one place again and again, then something that is no code. */
static void jit(void)
{
    unsigned *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    CHECK(code == MAP_FAILED ? -1 : 0);
    code += 1022;                               /* across two pages */
    for (int i = 0; i < 2000; i++) {
        code[0] = 0x513 | i % 1000 << 20;       /* li a0, i % 1000 */
        code[1] = 0x00150513;                   /* addi a0, a0, 1 */
        code[2] = 0x00008067;                   /* ret */
        asm volatile("fence.i" ::: "memory");
        sum += ((int (*)(void))code)();
    }
    printf("jit %ld\n", sum);
    fflush(stdout);
    code[1] = 0;
    asm volatile("fence.i" ::: "memory");
    ((int (*)(void))code)();
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (!strcmp(what, "files")) {
        many_files();
        kill(getpid(), SIGKILL);
    } else if (!strcmp(what, "kinds")) {
        many_kinds();
        *(volatile int *)8 = 0;
    } else if (!strcmp(what, "exec")) {
        many_kinds();
        threads(20, waits);
        threads(2, spins);
        execl("/guest", "/guest", "done", NULL);
    } else if (!strcmp(what, "threads")) {
        many_kinds();
        threads(300, waits);
        threads(3, spins);
        usleep(1000);
        exit(7);
    } else if (!strcmp(what, "processes")) {
        many_kinds();
        processes(2000);
        exit(8);
    } else if (!strcmp(what, "storm")) {
        storm();
    } else if (!strcmp(what, "deep")) {
        return deep((char[]) { 1 });
    } else if (!strcmp(what, "jit")) {
        jit();
    }
    return 0;
}
