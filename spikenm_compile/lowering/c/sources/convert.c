/* The same values in another layout. */
static void convert(size_t pixels, size_t channels, kind from, const void *values, kind to, void *out)
{
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        for (size_t c = 0; c < channels; ++c) {
            set_value(to, out, pixels, channels, pixel, c, value_at(from, values, pixels, channels, pixel, c));
        }
    }
}

