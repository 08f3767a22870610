/* total = op(total, x): the readout over time. */
static void accumulate(operation op, size_t pixels, size_t channels, void *total, kind k, const void *x)
{
    float *sum = total;
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        for (size_t c = 0; c < channels; ++c) {
            float *at = sum + pixel * channels + c;
            *at = apply(op, *at, value_at(k, x, pixels, channels, pixel, c));
        }
    }
}

