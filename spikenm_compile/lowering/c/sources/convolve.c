/* Integer weights by input channel: what one input event adds to the sums of all output channels is one row. */
typedef struct convolution {
    void (*add_pixel)(const struct convolution *conv, const void *input, size_t pixel, size_t tap, int32_t *sums);
    void (*add_row)(const struct convolution *conv, size_t row, int32_t level, int32_t *sums);
    int32_t in_height, in_width, in_channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
    int32_t groups;
    const int8_t *values;   /* row (tap, input channel): the weights, or those that are not zero */
    const uint8_t *kept;    /* sparse rows: one bit for each weight, set where it is not zero */
    const uint16_t *first;  /* sparse rows: where the values of each row start */
    const uint32_t *long_first;
    const float *scale, *bias;
} convolution;

/* The sums that input channel c adds to: those of its group. */
static int32_t *sums_of(const convolution *conv, size_t channel, int32_t *sums)
{
    if (conv->groups == 1) {
        return sums;
    }
    return sums + channel / (size_t)(conv->in_channels / conv->groups) * (size_t)(conv->out_channels / conv->groups);
}

/* Sums of all output channels at one output pixel; outside of the input everything is zero. */
static void sum_pixel(const convolution *conv, const void *input, int32_t y, int32_t x, int32_t *sums)
{
    memset(sums, 0, (size_t)conv->out_channels * sizeof *sums);
    for (int32_t ky = 0; ky < conv->kernel_height; ++ky) {
        const int32_t in_y = y * conv->stride_y + ky * conv->dilation_y - conv->padding_y;
        if (in_y < 0 || in_y >= conv->in_height) {
            continue;
        }
        for (int32_t kx = 0; kx < conv->kernel_width; ++kx) {
            const int32_t in_x = x * conv->stride_x + kx * conv->dilation_x - conv->padding_x;
            if (in_x >= 0 && in_x < conv->in_width) {
                conv->add_pixel(conv, input, (size_t)(in_y * conv->in_width + in_x),
                                (size_t)(ky * conv->kernel_width + kx), sums);
            }
        }
    }
}

/* current = float(sum) * scale + bias, each rounded; through the neurons of `layer`, or to `out` if it is NULL. */
static void convolve(const convolution *conv, const void *input, int32_t *sums, float *current, const neurons *layer,
                     uint8_t *state, void *out)
{
    const size_t channels = (size_t)conv->out_channels;
    const void *const currents[] = {current};
    size_t pixel = 0;
    for (int32_t y = 0; y < conv->out_height; ++y) {
        for (int32_t x = 0; x < conv->out_width; ++x, ++pixel) {
            float *to = layer != NULL ? current : (float *)out + pixel * channels;
            sum_pixel(conv, input, y, x, sums);
            for (size_t c = 0; c < channels; ++c) {
                const float product = (float)sums[c] * conv->scale[c];
                to[c] = product + conv->bias[c];
            }
            if (layer != NULL) {
                layer->step(layer, pixel, currents, 0, state, out);
            }
        }
    }
}

