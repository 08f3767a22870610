/* A row that holds every weight. */
static void add_dense_row(const convolution *conv, size_t row, int32_t level, int32_t *sums)
{
    const size_t outputs = (size_t)(conv->out_channels / conv->groups);
    const int8_t *weights = conv->values + row * outputs;
    if (level == 1) {
        for (size_t o = 0; o < outputs; ++o) {
            sums[o] += weights[o];
        }
        return;
    }
    for (size_t o = 0; o < outputs; ++o) {
        sums[o] += level * weights[o];
    }
}

