/* Maximum of the currents inside of the input, from -infinity; NaN wins. */
static void max_pool_floats(const pool *p, const void *x, void *out)
{
    const size_t channels = (size_t)p->channels;
    const float *current = x;
    float *pooled = out;
    for (int32_t y = 0; y < p->out_height; ++y) {
        for (int32_t column = 0; column < p->out_width; ++column, pooled += channels) {
            for (size_t c = 0; c < channels; ++c) {
                pooled[c] = float_of(0xff800000u);
            }
            for (int32_t tap = 0; tap < p->kernel_height * p->kernel_width; ++tap) {
                size_t from;
                if (pool_input(p, y, column, tap, &from)) {
                    for (size_t c = 0; c < channels; ++c) {
                        const float value = current[from * channels + c];
                        if (value > pooled[c] || value != value) {
                            pooled[c] = value;
                        }
                    }
                }
            }
        }
    }
}

