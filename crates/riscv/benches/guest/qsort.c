/* Sorts a million pseudo-random words by quicksort with calls through a comparison pointer. */
#include <stdint.h>

static const uint64_t state = 88172645463325252u;

__attribute__((noinline)) static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

__attribute__((noinline)) static int less(const uint64_t *a, const uint64_t *b)
{
	return *a < *b;
}

typedef int (*compare)(const uint64_t *, const uint64_t *);

__attribute__((noinline)) static void sort(uint64_t *a, int64_t n, compare before)
{
	while (n > 1) {
		uint64_t pivot = a[(n - 1) / 2];
		int64_t i = -1, j = n;
		for (;;) {
			do
				i++;
			while (before(&a[i], &pivot));
			do
				j--;
			while (before(&pivot, &a[j]));
			if (i >= j)
				break;
			uint64_t t = a[i];
			a[i] = a[j];
			a[j] = t;
		}
		sort(a, j + 1, before);
		a += j + 1;
		n -= j + 1;
	}
}

uint64_t run(uint8_t *heap)
{
	enum { N = 1000000 };
	uint64_t *a = (uint64_t *)heap, s = state;
	for (int i = 0; i < N; i++)
		a[i] = next(&s);
	sort(a, N, less);
	uint64_t wrong = 0;
	for (int i = 1; i < N; i++)
		wrong += a[i - 1] > a[i];
	return wrong;
}
