/* A row that holds the weights that are not zero, and one bit for each weight. */
static void add_sparse_row(const convolution *conv, size_t row, int32_t level, int32_t *sums)
{
    const size_t bytes = ((size_t)(conv->out_channels / conv->groups) + 7) / 8;
    const uint8_t *kept = conv->kept + row * bytes;
    const int8_t *value = conv->values + conv->first[row];
    for (size_t i = 0; i < bytes; ++i) {
        size_t o = 8 * i;
        for (uint32_t bits = kept[i]; bits != 0; bits >>= 1, ++o) {
            if (bits & 1u) {
                sums[o] += level * *value++;
            }
        }
    }
}

