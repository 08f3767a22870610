/* One time step of a layer of neurons whose current lies in memory. */
static void fire(const neurons *layer, size_t pixels, const void *current, uint8_t *state, void *out)
{
    const float *x = current;
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        layer->step(layer, pixel, x + pixel * layer->channels, state, out);
    }
}

