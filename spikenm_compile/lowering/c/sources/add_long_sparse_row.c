/* Of a layer with more than 65536 weights that are not zero. */
static void add_long_sparse_row(const convolution *conv, size_t row, int32_t level, int32_t *sums)
{
    add_kept(conv, row, conv->values + conv->long_first[row], level, sums);
}

