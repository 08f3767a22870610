/* Each level of a pixel (int8_t) that is not zero adds its multiple of one weight row. */
static void add_signed_levels(const convolution *conv, const void *input, size_t pixel, size_t tap, int32_t *sums)
{
    const size_t channels = (size_t)conv->in_channels;
    const int8_t *levels = (const int8_t *)input + pixel * channels;
    for (size_t channel = 0; channel < channels; ++channel) {
        if (levels[channel] != 0) {
            conv->add_row(conv, tap * channels + channel, levels[channel], sums_of(conv, channel, sums));
        }
    }
}

