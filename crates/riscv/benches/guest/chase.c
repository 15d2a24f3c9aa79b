/* Shuffles 64 MiB of indices into one cycle and follows it ten million steps. */
#include <stdint.h>

uint64_t run(uint8_t *heap)
{
	enum { N = 8 << 20, STEPS = 10000000 };
	uint64_t *a = (uint64_t *)heap, s = 88172645463325252u;
	for (uint64_t i = 0; i < N; i++)
		a[i] = i;
	for (uint64_t i = N - 1; i > 0; i--) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		uint64_t j = s % i, t = a[i];
		a[i] = a[j];
		a[j] = t;
	}
	uint64_t at = 0;
	for (int i = 0; i < STEPS; i++)
		at = a[at];
	return at;
}
