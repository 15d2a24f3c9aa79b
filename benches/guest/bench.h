/* Beside ../../programs/guest.h: an argument, and random numbers. */
#ifndef BENCH_H
#define BENCH_H

#include "../../programs/guest.h"

/* The first argument as a number, or what there is without one; 0 for no number. */
static ulong rounds_of(int argc, char **argv, ulong otherwise)
{
    ulong value = 0;
    if (argc < 2)
        return otherwise;
    for (const char *s = argv[1]; *s; s++) {
        if (*s < '0' || *s > '9' || value > 1 << 20)
            return 0;
        value = value * 10 + (*s - '0');
    }
    return value;
}

static ulong random_state = 0x9e3779b97f4a7c15;

/* xorshift64 (Marsaglia 2003). */
static inline ulong random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

#endif
