/* Each spike of a pixel adds one weight row; eight silent neurons cost one comparison. */
static void add_spikes(const convolution *conv, const void *input, size_t pixel, size_t tap, int32_t *sums)
{
    const size_t channels = (size_t)conv->in_channels, bytes = (channels + 7) / 8;
    const uint8_t *spikes = (const uint8_t *)input + pixel * bytes;
    for (size_t i = 0; i < bytes; ++i) {
        size_t channel = 8 * i;
        for (uint32_t bits = spikes[i]; bits != 0; bits >>= 1, ++channel) {
            if (bits & 1u) {
                conv->add_row(conv, tap * channels + channel, 1, sums_of(conv, channel, sums));
            }
        }
    }
}

