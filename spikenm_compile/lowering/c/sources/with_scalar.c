/* out = op(x, number), or op(number, x) where `number_first`. */
static void with_scalar(operation op, int number_first, size_t count, const void *x, float number, void *out)
{
    const float *value = x;
    float *result = out;
    for (size_t i = 0; i < count; ++i) {
        result[i] = number_first ? apply(op, number, value[i]) : apply(op, value[i], number);
    }
}

