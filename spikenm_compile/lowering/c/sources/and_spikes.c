/* Spikes where both spike: their product. */
static void and_spikes(size_t bytes, const void *a, const void *b, void *out)
{
    const uint8_t *left = a, *right = b;
    uint8_t *both = out;
    for (size_t i = 0; i < bytes; ++i) {
        both[i] = (uint8_t)(left[i] & right[i]);
    }
}

