/* One value as float; `pixels` and `channels` say how large the whole is. */
static float value_at(kind k, const void *values, size_t pixels, size_t channels, size_t pixel, size_t c)
{
    switch (k) {
    case SPIKE_BITS:
        return (float)(((const uint8_t *)values)[pixel * ((channels + 7) / 8) + c / 8] >> c % 8 & 1);
    case UNSIGNED_BYTES:
        return (float)((const uint8_t *)values)[pixel * channels + c];
    case SIGNED_BYTES:
        return (float)((const int8_t *)values)[pixel * channels + c];
    case FLOATS:
        return ((const float *)values)[pixel * channels + c];
    default:
        return ((const float *)values)[c * pixels + pixel];
    }
}

