/* The peer: a convolution of int8 by int8 to int32 as a direct matrix product, without any copy of its input.
 *
 *   x[t][y][x][c]   int8, HEIGHT + KERNEL - 1 by WIDTH + KERNEL - 1 pixels of CHANNELS: padding is in memory
 *   out[t][y][x][o] int32
 *
 * The taps of a kernel row lie behind one another in x, so that a tile of PIXELS by TILE outputs is a product over KERNEL
 * runs of KERNEL * CHANNELS bytes. All sums of a tile stay in registers. The loop is in assembly, since GCC moves sums
 * from register to register. What would follow (scales, a neuron, packing) is not part of it. Reads x and packed weights
 * from standard input, writes out to standard output. */
#include <arm_neon.h>
#include <stdint.h>
#include <stdio.h>

#define ROW ((WIDTH + KERNEL - 1) * CHANNELS)
#define STEP ((HEIGHT + KERNEL - 1) * ROW)
#define RUN (KERNEL * CHANNELS)

static int8_t x[STEPS * STEP] __attribute__((aligned(64)));
static int8_t weights[OUTPUTS * KERNEL * RUN] __attribute__((aligned(64)));
static int32_t out[STEPS * HEIGHT * WIDTH * OUTPUTS] __attribute__((aligned(64)));

#ifdef __ARM_FEATURE_DOTPROD
/* 8 pixels by 8 outputs, 16 channels at a time: 64 sdot, 12 loads, 2 for the loop.
 * Weights [o / 8][ky][16 channels][4 channels][8 outputs][4]. */
#define PIXELS 8
#define TILE 8
#define LOAD                                                                                                          \
    "ldr q0, [%[x]], #16\n"                                                                                           \
    "ldr q1, [%[x], %[p1]]\n ldr q2, [%[x], %[p2]]\n ldr q3, [%[x], %[p3]]\n ldr q4, [%[x], %[p4]]\n"                 \
    "ldr q5, [%[x], %[p5]]\n ldr q6, [%[x], %[p6]]\n ldr q7, [%[x], %[p7]]\n"                                         \
    "ldp q8, q9, [%[w]], #32\n ldp q10, q11, [%[w]], #32\n ldp q12, q13, [%[w]], #32\n ldp q14, q15, [%[w]], #32\n"
#define DOT(sum, w, pixel, j) "sdot v" #sum ".4s, v" #w ".16b, v" #pixel ".4b[" #j "]\n"
#define DOTS(j, low, high)                                                                \
    DOT(16, low, 0, j) DOT(17, high, 0, j) DOT(18, low, 1, j) DOT(19, high, 1, j)         \
    DOT(20, low, 2, j) DOT(21, high, 2, j) DOT(22, low, 3, j) DOT(23, high, 3, j)         \
    DOT(24, low, 4, j) DOT(25, high, 4, j) DOT(26, low, 5, j) DOT(27, high, 5, j)         \
    DOT(28, low, 6, j) DOT(29, high, 6, j) DOT(30, low, 7, j) DOT(31, high, 7, j)
#define MULTIPLY DOTS(0, 8, 9) DOTS(1, 10, 11) DOTS(2, 12, 13) DOTS(3, 14, 15)
#else
/* 4 pixels by 4 outputs, 16 channels at a time: 16 each of smull, smlal2 and sadalp, 6 loads, 2 for the loop. A product of
 * two int8 from -127 on is at most 16129, of which two fit int16. Weights [o / 4][ky][16 channels][4 outputs][16]. */
#define PIXELS 4
#define TILE 4
#define LOAD                                                                                     \
    "ldr q0, [%[x]], #16\n ldr q1, [%[x], %[p1]]\n ldr q2, [%[x], %[p2]]\n ldr q3, [%[x], %[p3]]\n" \
    "ldp q4, q5, [%[w]], #32\n ldp q6, q7, [%[w]], #32\n"

#define LOW(product, pixel, w) "smull v" #product ".8h, v" #pixel ".8b, v" #w ".8b\n"
#define HIGH(product, pixel, w) "smlal2 v" #product ".8h, v" #pixel ".16b, v" #w ".16b\n"
#define ADD(sum, product) "sadalp v" #sum ".4s, v" #product ".8h\n"
#define PIXEL(pixel, s0, s1, s2, s3)                                                   \
    LOW(8, pixel, 4) LOW(9, pixel, 5) LOW(10, pixel, 6) LOW(11, pixel, 7)              \
    HIGH(8, pixel, 4) HIGH(9, pixel, 5) HIGH(10, pixel, 6) HIGH(11, pixel, 7)          \
    ADD(s0, 8) ADD(s1, 9) ADD(s2, 10) ADD(s3, 11)
#define MULTIPLY PIXEL(0, 16, 17, 18, 19) PIXEL(1, 20, 21, 22, 23) PIXEL(2, 24, 25, 26, 27) PIXEL(3, 28, 29, 30, 31)
#endif

/* The sums of a tile to `sums`, in the order of their registers v16 to v31. */
static inline void product(const int8_t *from, const int8_t *w, int32_t *sums)
{
    long row, left;
    __asm__ volatile(
        "movi v16.4s, #0\n movi v17.4s, #0\n movi v18.4s, #0\n movi v19.4s, #0\n"
        "movi v20.4s, #0\n movi v21.4s, #0\n movi v22.4s, #0\n movi v23.4s, #0\n"
        "movi v24.4s, #0\n movi v25.4s, #0\n movi v26.4s, #0\n movi v27.4s, #0\n"
        "movi v28.4s, #0\n movi v29.4s, #0\n movi v30.4s, #0\n movi v31.4s, #0\n"
        "mov %[row], %[rows]\n"
        "1: mov %[left], %[steps]\n"
        "2:" LOAD MULTIPLY
        "subs %[left], %[left], #1\n"
        "b.ne 2b\n"
        "add %[x], %[x], %[skip]\n"
        "subs %[row], %[row], #1\n"
        "b.ne 1b\n"
        "stp q16, q17, [%[to]]\n stp q18, q19, [%[to], #32]\n stp q20, q21, [%[to], #64]\n stp q22, q23, [%[to], #96]\n"
        "stp q24, q25, [%[to], #128]\n stp q26, q27, [%[to], #160]\n stp q28, q29, [%[to], #192]\n"
        "stp q30, q31, [%[to], #224]\n"
        : [x] "+r"(from), [w] "+r"(w), [row] "=&r"(row), [left] "=&r"(left)
        : [to] "r"(sums), [rows] "i"(KERNEL), [steps] "i"(RUN / 16), [skip] "r"((long)(ROW - RUN)),
          [p1] "i"(CHANNELS - 16), [p2] "i"(2 * CHANNELS - 16), [p3] "i"(3 * CHANNELS - 16), [p4] "i"(4 * CHANNELS - 16),
          [p5] "i"(5 * CHANNELS - 16), [p6] "i"(6 * CHANNELS - 16), [p7] "i"(7 * CHANNELS - 16)
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",
          "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31",
          "cc", "memory");
}

/* Sums of a tile to its place in `to`. */
static inline void write(const int32_t *sums, int32_t *to)
{
    for (int p = 0; p < PIXELS; p++, to += OUTPUTS) {
#ifdef __ARM_FEATURE_DOTPROD
        vst1q_s32(to, vld1q_s32(sums + 8 * p));
        vst1q_s32(to + 4, vld1q_s32(sums + 8 * p + 4));
#else
        const int32_t *of = sums + 16 * p;
        const int32x4_t first = vpaddq_s32(vld1q_s32(of), vld1q_s32(of + 4));
        vst1q_s32(to, vpaddq_s32(first, vpaddq_s32(vld1q_s32(of + 8), vld1q_s32(of + 12))));
#endif
    }
}

__attribute__((noinline)) void peer_conv(void)
{
    int32_t sums[64];
    for (int o = 0; o < OUTPUTS; o += TILE)
        for (int t = 0; t < STEPS; t++)
            for (int y = 0; y < HEIGHT; y++)
                for (int column = 0; column < WIDTH; column += PIXELS) {
                    product(x + t * STEP + y * ROW + column * CHANNELS, weights + o * KERNEL * RUN, sums);
                    write(sums, out + ((t * HEIGHT + y) * WIDTH + column) * OUTPUTS + o);
                }
}

int main(void)
{
    if (fread(x, 1, sizeof x, stdin) != sizeof x || fread(weights, 1, sizeof weights, stdin) != sizeof weights) return 1;
    peer_conv();
    return fwrite(out, 1, sizeof out, stdout) != sizeof out;
}
