/* Bits that are set where a value is not zero; those behind the last channel are not. */
static void pack_spikes(size_t pixels, size_t channels, kind from, const void *values, void *out)
{
    const size_t bytes = (channels + 7) / 8;
    uint8_t *bits = out;
    memset(bits, 0, pixels * bytes);
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        for (size_t c = 0; c < channels; ++c) {
            if (value_at(from, values, pixels, channels, pixel, c) != 0.0f) {
                bits[pixel * bytes + c / 8] |= (uint8_t)(1u << c % 8);
            }
        }
    }
}

