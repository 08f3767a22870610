/* The digits network on a Cortex-M: runs the test vectors of its artifact, prints each class, the outputs as bits of
 * float32, and how much stack was used. Exit code 0: all is equal bit for bit. */
#include <string.h>

#include "model.h"
#include "semihosting.h"
#include "test_vectors.h"

extern uint32_t bss_end[], stack_top[];

static DIGITS_ALIGNED uint8_t arena[DIGITS_ARENA_BYTES];
static DIGITS_ALIGNED uint8_t state[DIGITS_STATE_BYTES];
static float output[DIGITS_OUTPUT_SIZE];
static uint8_t spikes[DIGITS_VECTOR_NEURONS + 1];

static const uint32_t paint = 0xa5a5a5a5u;

static void print_number(const char *before, uint32_t value, const char *after)
{
    char digits[11], *at = digits + sizeof digits - 1;
    *at = '\0';
    do {
        *--at = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0u);
    semihosting_write(before);
    semihosting_write(at);
    semihosting_write(after);
}

/* Paint the memory between the variables and the stack. */
__attribute__((noinline)) static void paint_stack(void)
{
    const uint32_t *end = (const uint32_t *)__builtin_frame_address(0) - 16;
    for (uint32_t *at = bss_end; at < end; at++) *at = paint;
}

static uint32_t used_stack(void)
{
    const uint32_t *at = bss_end;
    while (*at == paint) at++;
    return (uint32_t)((const char *)stack_top - (const char *)at);
}

/* Number of differences of one vector, whose steps are taken one at a time. */
static uint32_t check_vector(int i)
{
    uint32_t wrong = digits_reset(arena, state) != DIGITS_OK;
    for (int32_t t = 0; t < DIGITS_VECTOR_STEPS; t++) {
        wrong += digits_step(arena, state, digits_vector_input[i][0], output) != DIGITS_OK;
        wrong += digits_spikes(arena, digits_describe()->num_neurons - 1, 0, spikes) != DIGITS_OK;
        wrong += memcmp(spikes, digits_vector_spikes[i][t], DIGITS_VECTOR_NEURONS) != 0;
    }
    print_number("class ", (uint32_t)digits_class(output), ", outputs");
    for (int j = 0; j < DIGITS_OUTPUT_SIZE; j++) {
        uint32_t bits;
        memcpy(&bits, &output[j], sizeof bits);
        print_number(" ", bits, "");
        wrong += output[j] != digits_vector_output[i][0][j];
    }
    semihosting_write("\n");
    return wrong;
}

int main(void)
{
    uint32_t wrong = 0;
    paint_stack();
    const int32_t code = digits_init(arena, state);
    if (code != DIGITS_OK) {
        semihosting_write(digits_error(code));
        return 1;
    }
    for (int i = 0; i < DIGITS_VECTORS; i++) wrong += check_vector(i);
    print_number("stack ", used_stack(), " bytes\n");
    semihosting_write(wrong ? "NOT equal to the reference\n" : "equal to the reference bit for bit\n");
    return wrong != 0;
}
