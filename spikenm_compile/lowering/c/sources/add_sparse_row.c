static void add_sparse_row(const convolution *conv, size_t row, int32_t level, int32_t *sums)
{
    add_kept(conv, row, conv->values + conv->first[row], level, sums);
}

