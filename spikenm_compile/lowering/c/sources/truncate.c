/* Towards zero. */
static float truncate(float a)
{
    return is_whole(a) ? a : signed_as((float)(int32_t)a, a);
}

