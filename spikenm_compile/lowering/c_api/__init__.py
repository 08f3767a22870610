"""The public C interface of a network: model.h and model.c over the four functions of a program, and examples."""
