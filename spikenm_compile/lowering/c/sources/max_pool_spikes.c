/* The maximum of spikes is their OR. */
static void max_pool_spikes(const pool *p, const void *x, void *out)
{
    const size_t bytes = ((size_t)p->channels + 7) / 8;
    const uint8_t *spikes = x;
    uint8_t *pooled = out;
    size_t pixel = 0;
    memset(pooled, 0, (size_t)(p->out_height * p->out_width) * bytes);
    for (int32_t y = 0; y < p->out_height; ++y) {
        for (int32_t column = 0; column < p->out_width; ++column, ++pixel) {
            for (int32_t tap = 0; tap < p->kernel_height * p->kernel_width; ++tap) {
                size_t from;
                if (pool_input(p, y, column, tap, &from)) {
                    for (size_t i = 0; i < bytes; ++i) {
                        pooled[pixel * bytes + i] |= spikes[from * bytes + i];
                    }
                }
            }
        }
    }
}

