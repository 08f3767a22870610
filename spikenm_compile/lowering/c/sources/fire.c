/* One time step of a layer of neurons whose currents, one for each input, lie in memory. */
static void fire(const neurons *layer, size_t pixels, const void *const *currents, uint8_t *state, void *out)
{
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        layer->step(layer, pixel, currents, pixel * layer->channels, state, out);
    }
}

