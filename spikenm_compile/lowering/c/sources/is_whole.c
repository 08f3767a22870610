/* |whole| with the sign of a. */
static float signed_as(float whole, float a)
{
    return float_of((bits_of(whole) & 0x7fffffffu) | (bits_of(a) & 0x80000000u));
}

/* From 2^23 on every float32 is whole. NaN and infinities come back as they are. */
static int is_whole(float a)
{
    return !(absolute(a) < 8388608.0f);
}

