// Mounting: tmpfs, binds, what is busy, what is refused.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY(...) do { errno = 0; long answer = (long)(__VA_ARGS__); \
    printf("%-66s %ld %s\n", #__VA_ARGS__, answer, answer < 0 ? strerrorname_np(errno) : "ok"); } while (0)

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int r = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return r;
}

int main(void)
{
    char root[] = "/tmp/mounts.XXXXXX";
    if (!mkdtemp(root) || chdir(root))
        return 1;
    mkdir("a", 0755);
    mkdir("b", 0755);
    TRY(put("a/below", "1"));
    TRY(mount("none", "a", "tmpfs", 0, ""));
    TRY(access("a/below", F_OK));
    TRY(put("a/above", "22"));
    TRY(mount("a", "b", 0, MS_BIND, 0));
    TRY(access("b/above", F_OK));
    TRY(put("b/through", "333"));
    TRY(access("a/through", F_OK));
    TRY(rename("a/above", "b/above2"));
    TRY(rename("a/above", "moved"));
    TRY(link("a/above", "linked"));
    TRY(rmdir("a"));
    TRY(chdir("a"));
    TRY(umount2("../a", 0));
    TRY(chdir(".."));
    TRY(umount2("a", 0x100));
    int fd = open("a/above", O_RDONLY);
    TRY(umount("a"));
    TRY(umount2("a", MNT_DETACH));
    TRY(access("a/below", F_OK));
    char c = 0;
    TRY(read(fd, &c, 1));
    close(fd);
    TRY(umount("b"));
    TRY(umount("b"));
    TRY(access("b/above", F_OK));
    TRY(mount("none", "a", "tmpfs", MS_RDONLY, 0));
    TRY(put("a/x", "x"));
    TRY(mount(0, "a", 0, MS_REMOUNT, 0));
    TRY(put("a/x", "x"));
    TRY(umount("a"));
    TRY(mount("none", "nowhere", "tmpfs", 0, 0));
    TRY(mount("none", "a/below", "tmpfs", 0, 0));
    TRY(mount("none", "a", "nosuchfs", 0, 0));
    TRY(mount("none", (char *)8, "tmpfs", 0, 0));
    TRY(mount("nowhere", "a", 0, MS_BIND, 0));
    TRY(mount("a/below", "b", 0, MS_BIND, 0));
    TRY(umount("a/below"));
    TRY(umount((char *)8));
    fflush(stdout);
    if (fork() == 0) {
        setuid(1000);
        TRY(mount("none", "a", "tmpfs", 0, 0));
        TRY(umount("/proc"));
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    unlink("a/below");
    TRY(rmdir("a"));
    TRY(rmdir("b"));
    return 0;
}
