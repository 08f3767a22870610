/* Sum of the whole numbers inside of the input. */
static void sum_pool(const pool *p, kind k, const void *x, void *out)
{
    const size_t channels = (size_t)p->channels, pixels = (size_t)(p->in_height * p->in_width);
    uint8_t *pooled = out;
    memset(pooled, 0, (size_t)(p->out_height * p->out_width) * channels);
    for (int32_t y = 0; y < p->out_height; ++y) {
        for (int32_t column = 0; column < p->out_width; ++column, pooled += channels) {
            for (int32_t tap = 0; tap < p->kernel_height * p->kernel_width; ++tap) {
                size_t from;
                if (pool_input(p, y, column, tap, &from)) {
                    for (size_t c = 0; c < channels; ++c) {
                        pooled[c] = (uint8_t)(pooled[c] + (uint8_t)value_at(k, x, pixels, channels, from, c));
                    }
                }
            }
        }
    }
}

