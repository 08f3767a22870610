/* Nearest whole number, ties to even: adding 2^23 leaves no room for a fraction. */
static float round_half_even(float a)
{
    return is_whole(a) ? a : signed_as((absolute(a) + 8388608.0f) - 8388608.0f, a);
}

