typedef enum { ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM } operation;

static float apply(operation op, float a, float b)
{
    switch (op) {
    case ADD:
        return a + b;
    case SUBTRACT:
        return a - b;
    case MULTIPLY:
        return a * b;
    case DIVIDE:
        return a / b;
    default:
        /* NaN wins: where a is not greater and equals itself, b is the larger or NaN. */
        return a > b ? a : (a == a ? b : a);
    }
}

