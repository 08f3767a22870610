/* out = op(a, b), value by value. */
static void join(operation op, size_t pixels, size_t channels, kind kind_a, const void *a, kind kind_b, const void *b,
                 kind kind_out, void *out)
{
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        for (size_t c = 0; c < channels; ++c) {
            const float left = value_at(kind_a, a, pixels, channels, pixel, c);
            const float right = value_at(kind_b, b, pixels, channels, pixel, c);
            set_value(kind_out, out, pixels, channels, pixel, c, apply(op, left, right));
        }
    }
}

