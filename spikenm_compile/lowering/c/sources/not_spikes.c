/* Spikes of the channels that are silent: 1 - x. */
static void not_spikes(size_t pixels, size_t channels, const void *x, void *out)
{
    const size_t bytes = (channels + 7) / 8;
    const unsigned last = 0xffu >> (8 * bytes - channels);
    const uint8_t *spikes = x;
    uint8_t *silent = out;
    for (size_t i = 0; i < pixels * bytes; ++i) {
        silent[i] = (uint8_t)(~(unsigned)spikes[i] & (i % bytes == bytes - 1 ? last : 0xffu));
    }
}

