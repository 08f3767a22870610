/* Runs a layer that was compiled for ARM: reads the stored weights, the first state and CALLS inputs from standard input, and
 * writes what each call wrote to standard output. Sizes and offsets in bytes are given by -D. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t spikenm_prepare(const uint8_t *packed, uint8_t *params);
int32_t spikenm_steps(const uint8_t *params, const float *input, uint8_t *state, uint8_t *arena, float *output,
                      int32_t num_steps);

#define ALIGNED __attribute__((aligned(64)))
static ALIGNED uint8_t packed[PACKED], params[PARAMS], first_state[STATE], state[STATE], arena[ARENA];
static ALIGNED float nothing[16];

static void read_all(void *memory, size_t size)
{
    if (fread(memory, 1, size, stdin) != size) exit(1);
}

int main(void)
{
    read_all(packed, PACKED);
    read_all(first_state, STATE);
    spikenm_prepare(packed, params);
    for (int call = 0; call < CALLS; call++) {
        read_all(arena + INPUT, INPUT_BYTES);
        memcpy(state, first_state, STATE);
        spikenm_steps(params, nothing, state, arena, nothing, STEPS);
        if (fwrite(arena + OUTPUT, 1, OUTPUT_BYTES, stdout) != OUTPUT_BYTES) return 1;
    }
    return 0;
}
