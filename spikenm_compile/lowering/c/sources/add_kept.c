/* The weights of one row that are not zero, from `value` on; one bit for each weight says which they are. */
static void add_kept(const convolution *conv, size_t row, const int8_t *value, int32_t level, int32_t *sums)
{
    const size_t bytes = ((size_t)(conv->out_channels / conv->groups) + 7) / 8;
    const uint8_t *kept = conv->kept + row * bytes;
    for (size_t i = 0; i < bytes; ++i) {
        size_t o = 8 * i;
        for (uint32_t bits = kept[i]; bits != 0; bits >>= 1, ++o) {
            if (bits & 1u) {
                sums[o] += level * *value++;
            }
        }
    }
}

