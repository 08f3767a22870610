#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Every operation is rounded to float32 on its own and in the order written: that is what "bit for bit" rests on. */
#if defined(__FAST_MATH__)
#error "This code must be compiled without -ffast-math."
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "float must be computed in float32: on 32-bit x86 add -msse2 -mfpmath=sse."
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif

