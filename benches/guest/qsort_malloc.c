/* Quicksort with a comparison through a pointer, and a heap: sizes of powers of two, free lists, brk. */
#include "bench.h"

enum { RECORDS = 1 << 17, CLASSES = 16, HELD = 1 << 14, CALLS = 1 << 18 };

struct record { ulong key; uint32_t number, weight; };
typedef int order(const struct record *a, const struct record *b);

static int by_key(const struct record *a, const struct record *b)
{
    return a->key < b->key ? -1 : a->key > b->key;
}
static int by_weight(const struct record *a, const struct record *b)
{
    return a->weight != b->weight ? (a->weight < b->weight ? -1 : 1) : by_key(a, b);
}

static inline void swap(struct record *a, struct record *b)
{
    struct record t = *a;
    *a = *b, *b = t;
}

static void __attribute__((noinline)) sort(struct record *at, long count, order *before)
{
    while (count > 12) {
        struct record pivot = at[count / 2];
        long i = 0, j = count - 1;
        while (i <= j) {
            while (before(&at[i], &pivot) < 0)
                i++;
            while (before(&at[j], &pivot) > 0)
                j--;
            if (i <= j)
                swap(&at[i++], &at[j--]);
        }
        /* The smaller part by a call, so that the stack stays low. */
        if (j + 1 < count - i) {
            sort(at, j + 1, before);
            at += i, count -= i;
        } else {
            sort(at + i, count - i, before);
            count = j + 1;
        }
    }
    for (long i = 1; i < count; i++)
        for (long j = i; j > 0 && before(&at[j - 1], &at[j]) > 0; j--)
            swap(&at[j - 1], &at[j]);
}

struct piece { struct piece *next; };
static struct piece *free_pieces[CLASSES];
static char *heap_at, *heap_end;

static int class_of(size_t size)
{
    int class = 0;
    while ((size_t)16 << class < size + 8)
        class++;
    return class;
}

/* The eight bytes before what is handed out say its class. */
static void *allocate(size_t size)
{
    int class = class_of(size);
    struct piece *piece = free_pieces[class];
    if (piece) {
        free_pieces[class] = piece->next;
        return piece;
    }
    size_t bytes = (size_t)16 << class;
    if (heap_at + bytes > heap_end) {
        heap_at = heap_end ? heap_at : sys_brk(0);
        heap_end = sys_brk(heap_at + bytes + (1 << 20));
    }
    *(ulong *)heap_at = class;
    heap_at += bytes;
    return heap_at - bytes + 8;
}

static void release(void *at)
{
    struct piece *piece = at;
    ulong class = ((ulong *)at)[-1];
    piece->next = free_pieces[class];
    free_pieces[class] = piece;
}

static struct record records[RECORDS];
static ulong *held[HELD];

static ulong use_heap(void)
{
    ulong sum = 0;
    for (long i = 0; i < CALLS; i++) {
        ulong word = random_word();
        ulong **place = &held[word % HELD];
        if (*place) {
            sum += **place;
            release(*place);
        }
        *place = allocate(8 + (word >> 32) % (word >> 62 ? 120 : 2000));
        **place = word;
    }
    return sum;
}

static int guest_main(int argc, char **argv)
{
    ulong rounds = rounds_of(argc, argv, 41), sum = 0, wrong = rounds == 0;
    for (ulong round = 0; round < rounds; round++) {
        for (long i = 0; i < RECORDS; i++) {
            ulong word = random_word();
            records[i] = (struct record){ word, i, word >> 40 & 255 };
        }
        order *before = round % 2 ? by_weight : by_key;
        sort(records, RECORDS, before);
        for (long i = 1; i < RECORDS; i++)
            wrong += before(&records[i - 1], &records[i]) > 0;
        sum += use_heap() + records[RECORDS / 2].key;
    }
    print("%16lx%s\n", sum, wrong ? ", and something is out of order" : "");
    return wrong != 0;
}
