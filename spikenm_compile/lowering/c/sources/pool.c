typedef struct {
    int32_t in_height, in_width, channels, out_height, out_width;
    int32_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
} pool;

/* The input pixel under a tap of the window at output (y, x); 0 where it lies outside. */
static int pool_input(const pool *p, int32_t y, int32_t x, int32_t tap, size_t *pixel)
{
    const int32_t in_y = y * p->stride_y + tap / p->kernel_width * p->dilation_y - p->padding_y;
    const int32_t in_x = x * p->stride_x + tap % p->kernel_width * p->dilation_x - p->padding_x;
    *pixel = (size_t)(in_y * p->in_width + in_x);
    return in_y >= 0 && in_y < p->in_height && in_x >= 0 && in_x < p->in_width;
}

