/* Nearest level, ties to even, saturated; NaN becomes the lowest. [C][H][W] float to [H][W][C] bytes. */
static void quantize(size_t pixels, size_t channels, float scale, float low, float high, const float *x, void *out)
{
    int8_t *signed_levels = out;
    uint8_t *unsigned_levels = out;
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        for (size_t c = 0; c < channels; ++c) {
            const float q = round_half_even(x[c * pixels + pixel] / scale);
            const float level = smaller(larger(q, low), high);
            if (low < 0.0f) {
                signed_levels[pixel * channels + c] = (int8_t)level;
            } else {
                unsigned_levels[pixel * channels + c] = (uint8_t)level;
            }
        }
    }
}

