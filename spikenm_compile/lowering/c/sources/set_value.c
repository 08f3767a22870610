/* Not for bits. */
static void set_value(kind k, void *values, size_t pixels, size_t channels, size_t pixel, size_t c, float value)
{
    switch (k) {
    case UNSIGNED_BYTES:
        ((uint8_t *)values)[pixel * channels + c] = (uint8_t)value;
        break;
    case SIGNED_BYTES:
        ((int8_t *)values)[pixel * channels + c] = (int8_t)value;
        break;
    case FLOATS:
        ((float *)values)[pixel * channels + c] = value;
        break;
    default:
        ((float *)values)[c * pixels + pixel] = value;
        break;
    }
}

