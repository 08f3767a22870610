/* The weights of one row that are not zero, from `value` on; one bit for each weight says which they are. Eight tests
 * without a loop: on a Cortex-M4 a row of 2:4 then takes fewer instructions than a dense one. */
static void add_kept(const convolution *conv, size_t row, const int8_t *value, int32_t level, int32_t *sums)
{
    const size_t bytes = ((size_t)(conv->out_channels / conv->groups) + 7) / 8;
    const uint8_t *kept = conv->kept + row * bytes;
    for (size_t i = 0; i < bytes; ++i, sums += 8) {
        const uint32_t bits = kept[i];
        if (bits & 0x01u) sums[0] += level * *value++;
        if (bits & 0x02u) sums[1] += level * *value++;
        if (bits & 0x04u) sums[2] += level * *value++;
        if (bits & 0x08u) sums[3] += level * *value++;
        if (bits & 0x10u) sums[4] += level * *value++;
        if (bits & 0x20u) sums[5] += level * *value++;
        if (bits & 0x40u) sums[6] += level * *value++;
        if (bits & 0x80u) sums[7] += level * *value++;
    }
}

