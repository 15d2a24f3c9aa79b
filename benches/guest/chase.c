/* A ring of pointers through 64 MiB, shuffled (Sattolo 1986) and followed. */
#include "bench.h"

enum { BYTES = 64 << 20, COUNT = BYTES / 8 };

static int guest_main(int argc, char **argv)
{
    ulong rounds = rounds_of(argc, argv, 2);
    ulong *next = sys_mmap(BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    sys_madvise(next, BYTES, MADV_NOHUGEPAGE);
    for (ulong i = 0; i < COUNT; i++)
        next[i] = i;
    for (ulong i = COUNT - 1; i > 0; i--) {
        ulong j = (random_word() >> 32) * i >> 32;
        ulong t = next[i];
        next[i] = next[j], next[j] = t;
    }
    ulong at = 0, sum = 0;
    for (ulong round = 0; round < rounds; round++)
        for (ulong step = 0; step < COUNT; step++) {
            at = next[at];
            sum = sum * 31 + at;
        }
    print("%16lx\n", sum);
    return rounds == 0 || at != 0;
}
