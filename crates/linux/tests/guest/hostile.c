/*
 * Tries to get at SECRET, a file beside its root folder: argv[1] is its path on the host. Then
 * leaves as much behind as it can. Prints "reached: HOW" for each way that worked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int tries;

static void look(int fd, const char *how)
{
    char text[64] = "";
    tries++;
    if (fd < 0)
        return;
    if (read(fd, text, sizeof text - 1) > 0 && strstr(text, "SECRET"))
        printf("reached: %s\n", how);
    close(fd);
}

static void try(const char *path)
{
    char link[PATH_MAX];
    look(open(path, O_RDONLY), path);
    /* The same as the text of a link, in its middle, and of a link to that. */
    unlink("/a/link");
    unlink("/a/link2");
    symlink(path, "/a/link");
    symlink("link", "/a/link2");
    look(open("/a/link", O_RDONLY), "link");
    look(open("/a/link2", O_RDWR | O_CREAT, 0600), "link to a link");
    snprintf(link, sizeof link, "/a/../%s", path);
    look(open(link, O_RDONLY), link);
    snprintf(link, sizeof link, "/proc/self/root/%s", path);
    look(open(link, O_RDONLY), link);
    snprintf(link, sizeof link, "/proc/self/cwd/%s", path);
    look(open(link, O_RDONLY), link);
}

static volatile int stop;

/* A folder that becomes a link upwards and a folder again, over and over. */
static void *flip(void *unused)
{
    while (!stop)
        syscall(SYS_renameat2, AT_FDCWD, "/a/b", AT_FDCWD, "/a/up", 2 /* RENAME_EXCHANGE */);
    return NULL;
}

static void race(void)
{
    pthread_t thread;
    mkdir("/a/b", 0700);
    mkdir("/a/b/c", 0700);
    symlink("/../../../..", "/a/up");
    pthread_create(&thread, NULL, flip, NULL);
    for (int i = 0; i < 300; i++) {
        int dir;
        look(open("/a/b/c/../../../../secret", O_RDONLY), "race");
        look(open("/a/b/../secret", O_RDONLY), "race");
        if ((dir = open("/a/b", O_PATH)) >= 0) {
            look(openat(dir, "../../secret", O_RDONLY), "race from a folder");
            look(openat(dir, "../secret", O_RDONLY), "race from a link");
            close(dir);
        }
    }
    stop = 1;
    pthread_join(thread, NULL);
}

/* The way out of a chroot: hold on to a folder outside, go up from there. */
static void chroots(void)
{
    int top = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/a/jail", 0700);
    if (fork() == 0) {
        chroot("/a/jail");
        fchdir(top);
        for (int i = 0; i < 100; i++)
            chdir("..");
        chroot(".");
        look(open("secret", O_RDONLY), "chroot");
        look(open("../secret", O_RDONLY), "chroot, above");
        look(openat(top, "../secret", O_RDONLY), "folder outside of the chroot");
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    close(top);
}

/* A folder that is moved while one stands in it. */
static void moved(void)
{
    mkdir("/a/deep", 0700);
    mkdir("/a/deep/er", 0700);
    chdir("/a/deep/er");
    rename("/a/deep/er", "/er");
    look(open("../secret", O_RDONLY), "moved folder");
    look(open("../../secret", O_RDONLY), "moved folder");
    rmdir("/er");
    look(open("../secret", O_RDONLY), "removed folder");
    chdir("/");
}

static void descriptors(void)
{
    char path[64], text[PATH_MAX];
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, text, sizeof text - 1);
        if (length > 0) {
            text[length] = 0;
            try(text);
        }
        snprintf(path, sizeof path, "/proc/self/fd/%d/../secret", fd);
        try(path);
        snprintf(path, sizeof path, "/proc/1/fd/%d", fd);
        if (fd > 2)
            try(path);
    }
}

static void devices(void)
{
    static const char *const names[] = { "/dev/mem", "/dev/kmem", "/dev/port", "/dev/vda",
        "/dev/sda", "/dev/kmsg", "/proc/kcore", "/proc/sysrq-trigger" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        int fd = open(names[i], O_RDWR);
        if (fd >= 0)
            printf("reached: %s\n", names[i]);
        tries++;
    }
    for (int major = 0; major < 260; major++) {
        /* Null, zero, ttys: those that the machine has itself. */
        if (major == 1 || major == 4 || major == 5 || (major >= 136 && major < 144))
            continue;
        for (int minor = 0; minor < 2; minor++)
            for (int kind = 0; kind < 2; kind++) {
                unlink("/a/node");
                if (mknod("/a/node", kind ? S_IFBLK | 0600 : S_IFCHR | 0600, makedev(major, minor)) == 0)
                    look(open("/a/node", O_RDWR | O_NONBLOCK), "device node");
            }
    }
}

static void vectors(void)
{
    static struct iovec many[1025];
    char byte;
    int fd = open("/a/file", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 1025; i++)
        many[i] = (struct iovec) { &byte, 1 };
    if (writev(fd, many, 1025) != -1 || errno != EINVAL)
        printf("reached: too many pieces\n");
    many[0].iov_len = many[1].iov_len = SSIZE_MAX;
    if (writev(fd, many, -1) != -1 || preadv(fd, many, 2, -1) != -1)
        printf("reached: a negative place\n");
    /* More than there is: it ends where memory does, or fails. */
    many[0] = (struct iovec) { (void *)-4096UL, SSIZE_MAX };
    if (readv(0, many, 1) > 0 || writev(fd, many, 1) > 0)
        printf("reached: memory of the kernel's\n");
    many[0] = (struct iovec) { &byte, -1UL };
    if (writev(fd, many, 1) != -1 || errno != EINVAL)
        printf("reached: a length below zero\n");
    if (process_vm_readv(1, many, 1, many, 1, 0) > 0 && getpid() != 1)
        printf("reached: a huge copy\n");
    close(fd);
}

/* Files, mappings, processes, threads and pipes that nobody tidies up. */
static void *sleeper(void *unused)
{
    pause();
    return NULL;
}

static void litter(void)
{
    for (int child = 0; child < 8; child++) {
        if (fork() != 0)
            continue;
        char name[64];
        pthread_t thread;
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof name, "/a/%d-%d", child, i);
            int fd = open(name, O_RDWR | O_CREAT, 0600);
            write(fd, name, sizeof name);
            char *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            mapped[1]++;
            if (i % 3 == 0)
                unlink(name);
            if (i % 7 == 0)
                pipe((int[2]) { 0, 0 });
        }
        pthread_create(&thread, NULL, sleeper, NULL);
        if (child % 3 == 0)
            abort();
        if (child % 3 == 1)
            pause();
        _exit(0);
    }
    usleep(500000);
}

int main(int argc, char **argv)
{
    static const char *const paths[] = { "secret", "../secret", "/../secret", "../../../secret",
        "/./..//../secret", "//secret", "/proc/self/root/../secret", "/proc/1/root/../secret",
        "/proc/self/task/../root/../secret", "/proc/self/exe/../../secret", "/dev/fd/../../secret",
        "/dev/../../secret", "/sys/../../secret", "/tmp/../../secret", "/proc/../../secret" };

    setvbuf(stdout, NULL, _IOLBF, 0);
    mkdir("/a", 0700);
    chdir("/");
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++)
        try(paths[i]);
    try(argv[1]);
    chdir("/a");
    try("../../secret");
    chdir("/");
    /* Names that are as long as names get, and longer. */
    static char longest[3 * PATH_MAX];
    for (int i = 0; i < PATH_MAX; i++)
        memcpy(longest + 3 * i, "../", 3);
    strcpy(longest + 3 * 1360, "secret");
    try(longest);
    mount("/..", "/a", NULL, MS_BIND, NULL);
    try("/a/secret");
    umount("/a");
    link("/../secret", "/hard");
    link(argv[1], "/hard");
    linkat(AT_FDCWD, "/a/link", AT_FDCWD, "/hard", AT_SYMLINK_FOLLOW);
    rename("/../secret", "/hard");
    try("/hard");
    race();
    chroots();
    moved();
    descriptors();
    devices();
    vectors();
    litter();
    printf("tried enough: %d\n", tries > 1000);
    return 0;
}
