/* Swap where there is none yet. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

/* A real machine starts without swap: its zram device is made one. */
static void need_swap(void)
{
    enum { PAGE_BYTES = 4096 };
    static char head[PAGE_BYTES];
    int fd = open("/sys/block/zram0/disksize", O_WRONLY);
    if (fd < 0 || write(fd, "67108864", 8) != 8)
        return;
    close(fd);
    uint32_t *info = (uint32_t *)(head + 1024);
    info[0] = 1;
    info[1] = 67108864 / PAGE_BYTES - 1;
    memcpy(head + PAGE_BYTES - 10, "SWAPSPACE2", 10);
    fd = open("/dev/zram0", O_RDWR);
    if (write(fd, head, PAGE_BYTES) != PAGE_BYTES || fsync(fd) || swapon("/dev/zram0", 0))
        perror("swapon");
    close(fd);
}
