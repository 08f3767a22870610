/* a where a > b, else b: NaN is never greater. */
static float larger(float a, float b)
{
    return a > b ? a : b;
}

