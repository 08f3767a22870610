/* Times the kernels of one layer in turns on the machine that loads this library, by calls of TVM's RPC.
 *
 *     measure(seconds)      times all kernels on all inputs; 1 where their outputs agree, else 0
 *     microseconds(number)  mean over inputs of the least time of kernel `number`
 *
 * Kernels, sizes and data come from the generated board_layer.h; the rounds are those of stopwatch.py.
 */
#define _GNU_SOURCE
#include "board_layer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A value as TVM's foreign function interface passes it. */
struct value {
    int32_t kind;
    uint32_t zero;
    union {
        int64_t whole;
        double real;
    } as;
};
enum { WHOLE = 1, REAL = 3 };
enum { MOST_ROUNDS = 200, FEWEST_ROUNDS = 5, ALIGNMENT = 64 };

static uint8_t *params[NUM_KERNELS], *states[NUM_KERNELS], *arenas[NUM_KERNELS];
static double least[NUM_KERNELS][NUM_INPUTS];
static float nothing[16];

static uint8_t *zeros(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, bytes + ALIGNMENT) != 0) abort();
    return memset(memory, 0, bytes + ALIGNMENT);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double call(int number, int input) {
    const struct board_kernel *kernel = &board_kernels[number];
    memcpy(states[number], board_data + kernel->state_at, kernel->state_bytes);
    memcpy(arenas[number] + kernel->source_at, board_data + kernel->inputs_at + input * INPUT_BYTES, INPUT_BYTES);
    double start = now();
    kernel->steps(params[number], nothing, states[number], arenas[number], nothing, NUM_STEPS);
    return now() - start;
}

static int agree(void) {
    for (int input = 0; input < NUM_INPUTS; input++)
        for (int number = 0; number < NUM_KERNELS; number++) {
            call(number, input);
            if (memcmp(arenas[0] + board_kernels[0].output_at, arenas[number] + board_kernels[number].output_at,
                       OUTPUT_BYTES) != 0)
                return 0;
        }
    return 1;
}

static void time_all(double seconds) {
    double spent = 0;
    for (int round = 0; round < MOST_ROUNDS; round++) {
        if (round >= FEWEST_ROUNDS && spent > seconds * 1e9) return;
        for (int input = 0; input < NUM_INPUTS; input++)
            for (int number = 0; number < NUM_KERNELS; number++) {
                double taken = call(number, input);
                if (round == 0 || taken < least[number][input]) least[number][input] = taken;
                spent += taken;
            }
    }
}

int __tvm_ffi_measure(void *self, const struct value *arguments, int32_t count, struct value *result) {
    (void)self;
    if (count != 1 || arguments[0].kind != REAL) return -1;
    for (int number = 0; number < NUM_KERNELS; number++) {
        const struct board_kernel *kernel = &board_kernels[number];
        params[number] = zeros(kernel->params_bytes);
        states[number] = zeros(kernel->state_bytes);
        arenas[number] = zeros(kernel->arena_bytes);
        kernel->prepare(board_data + kernel->packed_at, params[number]);
    }
    int agreed = agree();
    if (agreed) time_all(arguments[0].as.real);
    *result = (struct value){WHOLE, 0, {.whole = agreed}};
    return 0;
}

int __tvm_ffi_microseconds(void *self, const struct value *arguments, int32_t count, struct value *result) {
    (void)self;
    if (count != 1 || arguments[0].kind != WHOLE) return -1;
    double sum = 0;
    for (int input = 0; input < NUM_INPUTS; input++) sum += least[arguments[0].as.whole][input];
    *result = (struct value){REAL, 0, {.real = sum / NUM_INPUTS / 1000}};
    return 0;
}
