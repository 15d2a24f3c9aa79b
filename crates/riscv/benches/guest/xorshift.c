/* A hundred million steps' worth of dependent integer arithmetic. */
#include <stdint.h>

uint64_t run(uint8_t *heap)
{
	uint64_t s = 88172645463325252u, sum = 0;
	for (int i = 0; i < 20000000; i++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		sum += s;
	}
	return sum;
}
