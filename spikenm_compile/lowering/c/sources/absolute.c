/* The bits of a float32. */
static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float absolute(float a)
{
    return float_of(bits_of(a) & 0x7fffffffu);
}

