/* Primes below 2^20 by the sieve of Eratosthenes, ten times; returns how many. */
#include <stdint.h>

uint64_t run(uint8_t *heap)
{
	enum { N = 1 << 20 };
	uint64_t primes = 0;
	for (int round = 0; round < 10; round++) {
		for (uint64_t i = 0; i < N; i++)
			heap[i] = 1;
		for (uint64_t i = 2; i * i < N; i++)
			if (heap[i])
				for (uint64_t j = i * i; j < N; j += i)
					heap[j] = 0;
		primes = 0;
		for (uint64_t i = 2; i < N; i++)
			primes += heap[i];
	}
	return primes;
}
