/* Runs a network by its internal entries on samples from standard input; writes what came out to standard output.

   For each sample: [spikes of every kept buffer after each step,] output, state. With an argument: all steps in one call. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

#define JOIN(a, b) a##b
#define NAME(a, b) JOIN(a, b)
#define ENTRY(name) NAME(PREFIX, name)
#define PARAMETERS const uint8_t *, const float *, uint8_t *, uint8_t *, float *, int32_t

int32_t ENTRY(prepare)(const uint8_t *, uint8_t *);
int32_t ENTRY(before)(PARAMETERS);
int32_t ENTRY(steps)(PARAMETERS);
int32_t ENTRY(after)(PARAMETERS);

static const size_t offsets[] = SPIKE_OFFSETS, sizes[] = SPIKE_SIZES;

static void put(const void *data, size_t size)
{
    if (fwrite(data, 1, size, stdout) != size) {
        exit(3);
    }
}

int main(int count, char **arguments)
{
    const int one_call = count > 1;
    (void)arguments;
    uint8_t *state = malloc(STATE_BYTES), *initial = malloc(STATE_BYTES), *arena = malloc(ARENA_BYTES);
    float *input = malloc(INPUT_VALUES * sizeof *input), *output = malloc(OUTPUT_VALUES * sizeof *output);
    memset(arena, 0xa5, ARENA_BYTES); /* nothing may rely on zeros */
    if (ENTRY(prepare)(NULL, NULL) != 0 || fread(initial, 1, STATE_BYTES, stdin) != STATE_BYTES) {
        return 2;
    }
    while (fread(input, sizeof *input, INPUT_VALUES, stdin) == INPUT_VALUES) {
        memcpy(state, initial, STATE_BYTES);
        ENTRY(before)(NULL, input, state, arena, output, 1);
        for (int32_t t = 0; t < (one_call ? 1 : NUM_STEPS); ++t) {
            ENTRY(steps)(NULL, input + t * INPUT_STEP, state, arena, output + t * OUTPUT_STEP,
                         one_call ? NUM_STEPS : 1);
            for (size_t i = 0; i < sizeof offsets / sizeof *offsets && !one_call; ++i) {
                put(arena + offsets[i], sizes[i]);
            }
        }
        ENTRY(after)(NULL, input, state, arena, output, NUM_STEPS);
        put(output, OUTPUT_VALUES * sizeof *output);
        put(state, STATE_BYTES);
    }
    free(state), free(initial), free(arena), free(input), free(output);
    return 0;
}
